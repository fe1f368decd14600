"""Overrides as they were typed: what Hydra would take for something else is refused, with what to type instead."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, QuotedString, RangeSweep

from fmnist_sweep.config.arguments import suggest_override
from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.config.keys import find_value, has_key
from fmnist_sweep.config.known_keys import NAMING_KEYS, list_options, read_options
from fmnist_sweep.config.refusals import MOST_QUOTED
from fmnist_sweep.config.text_values import parse_override
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.tunable import is_tunable
from fmnist_sweep.text import quote_text

# Takes the overrides as they should be; says the whole command with -m.
SweepCommand = Callable[[Sequence[str]], str]

_TUNED_SECTIONS = ("model", "optimizer", "regularization", "train")


def check_typed_overrides(
    overrides: Mapping[str, str], *, is_multirun: bool = False, build_sweep: SweepCommand | None = None
) -> None:
    """Raise ConfigError for the first override that does not mean to Hydra what it says, or clashes with another.

    overrides: of `quote_texts`. build_sweep: None where -m cannot be added, as in a verb.
    """
    typed = list(overrides.values())
    readable: list[tuple[Override, str]] = []
    for position, (composed, text) in enumerate(overrides.items()):
        if "=" not in text and not text.startswith("~"):
            _refuse_word(text, typed[position - 1] if position else "", typed[position + 1 :])
        parsed = parse_override(composed)
        if parsed is None or parsed.is_hydra_override():  # Hydra's own error says what it cannot read
            continue
        _OverrideCheck(parsed, text, typed, is_multirun, build_sweep).run()
        readable.append((parsed, text))
    for first, second in itertools.combinations(_drop_replaced(readable), 2):
        _refuse_clash(*first, *second)


def _drop_replaced(overrides: Sequence[tuple[Override, str]]) -> list[tuple[Override, str]]:
    """The overrides without those that one after them sets anew: the last one counts, as people who append to a
    command mean it. What -m expands stays.
    """
    return [
        (override, text)
        for position, (override, text) in enumerate(overrides)
        if override.is_sweep_override()
        or not any(
            later.key_or_group == override.key_or_group
            and later.package == override.package
            and not later.is_sweep_override()
            for later, _ in overrides[position + 1 :]
        )
    ]


def _refuse_word(word: str, previous: str, following: Sequence[str]) -> None:
    """Raise ConfigError for a word without a = if it is known what it is meant for."""
    meant = None if previous.endswith("=") else suggest_override(word, following)
    if meant is None and "=" in previous:
        gap = "" if previous.endswith("=") else " "
        meant = f"{shlex.quote(f'{previous}{gap}{word}')} if it belongs to the word before it"
    if meant is not None:
        raise ConfigError(f"{_shorten(word)} (command line): expected KEY=VALUE; write {_shorten(meant)}.")


@dataclass(frozen=True)
class _OverrideCheck:
    """The check of one override, `typed`, among all of a command line."""

    parsed: Override
    typed: str
    overrides: Sequence[str]
    is_multirun: bool
    build_sweep: SweepCommand | None

    @property
    def key(self) -> str:
        return self.parsed.key_or_group

    @property
    def values(self) -> list[Any]:
        """The values that are listed, or the only one; a quoted one as a text."""
        value: Any = self.parsed.value()
        listed = value.list if isinstance(value, ChoiceSweep) else [value]
        return [item.text if isinstance(item, QuotedString) else item for item in listed]

    def run(self) -> None:
        """Raise ConfigError if the override does not mean what it says."""
        value: Any = self.parsed.value()
        if not self.key:
            self._refuse("the key is missing", "write KEY=VALUE, as in train.epochs=3")
        if len(self.key.encode()) > MOST_QUOTED:  # Hydra would look for a file of that name
            self._refuse("there is no such key", "write one of those in docs/configuration.md")
        if self.key in list_groups() and not isinstance(value, dict):  # a mapping changes the keys of the section
            self._check_group()
        if self.key == "data.dir" and value == "":  # an empty FMNIST_DATA_DIR means none; here it is a mistake
            self._refuse("the folder is missing", "write data.dir=FOLDER, or data.dir=null for none")
        if isinstance(value, IntervalSweep):
            self._refuse_interval(value)
        if isinstance(value, RangeSweep):
            self._check_range(value)
        if isinstance(value, Glob) and self.key not in list_groups():
            self._refuse(f"a pattern stands for options of a group, and {self.key} is none", "list its values")
        if isinstance(value, list) and self.key not in NAMING_KEYS and self._takes_one_value():
            self._refuse_listed_values()
        if self.parsed.is_sweep_override() and not self.is_multirun:
            self._refuse_sweep()
        if self.key in NAMING_KEYS and self.parsed.is_choice_sweep():
            group = self.key.partition(".")[0]
            if set(map(str, self.values)) <= set(list_options(group)):
                meant = shlex.quote(f"{group}={self._join_values()}")
                self._refuse("an option of the group brings its own settings", f"write {meant}")

    def _check_group(self) -> None:
        """Check the choice of an option."""
        group, options, values = self.key, list_options(self.key), self.values
        if self.parsed.package is not None or self.parsed.is_add() or self.parsed.is_force_add():
            option = next((value for value in values if isinstance(value, str)), options[0])
            mark = "a package" if self.parsed.package is not None else "the +"
            self._refuse(f"{group} is chosen once, for its own section", f"write {group}={option}, without {mark}")
        if self.parsed.is_delete():
            if group != "experiment":
                self._refuse(f"every study has an option of {group}", f"choose one of {', '.join(options)}")
            return
        if any(isinstance(value, IntervalSweep | RangeSweep) for value in values):
            self._refuse(f"{group} takes the name of one option", f"choose one of {', '.join(options)}")
        if any(isinstance(value, list | dict) for value in values):
            self._refuse_list(values)
        if any(value is None for value in values) and group != "experiment":
            self._refuse(f"{group} cannot be null", f"choose one of its options, {', '.join(options)}")

    def _refuse_list(self, values: Sequence[Any]) -> None:
        """Refuse the choice of several options at once, or of none by name."""
        names = [name for value in values for name in (value if isinstance(value, list) else [value])]
        if any(not isinstance(name, str) for name in names) or not names:
            allowed = ", ".join(list_options(self.key))
            self._refuse(f"{self.key} takes the name of one option", f"choose one of {allowed}")
        meant = f"{self.key}={','.join(dict.fromkeys(names))}"
        reason = f"{self.key} takes one option, and those of a list would overwrite each other"
        if len(set(names)) == 1 or self.is_multirun:
            self._refuse(reason, f"write {shlex.quote(meant)}")
        self._refuse(reason, self._advise_sweep(meant))

    def _check_range(self, sweep: RangeSweep) -> None:
        """Refuse a range that has no values, or no end."""
        start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step
        if any(math.isnan(number) for number in (start, stop, step)) or math.isinf(step):
            self._refuse("a range goes from number to number", f"write it as in '{self.key}=range(1,5)'")
        example = [_format_number(number) for number in (start, stop)]
        if step == 0:
            self._refuse("a range with a step of 0 has no end", f"give another step, as in {self.key}=range(1,9,2)")
        if start == stop:
            self._refuse("the range is empty, as its end does not belong to it", f"write {self.key}={example[0]}")
        if (start < stop) != (step > 0):
            ends = " to ".join(example)
            example += [_format_number(-step)] if step != -1 else []
            meant = shlex.quote(f"{self.key}=range({','.join(example)})")
            sign = "above" if start < stop else "below"
            self._refuse(f"from {ends} a range is empty unless its step is {sign} 0", f"write {meant}")

    def _refuse_interval(self, interval: IntervalSweep) -> None:
        bounds = [f"{bound:g}" for bound in sorted((interval.start or 0, interval.end or 0))]
        if self.key.partition(".")[0] not in _TUNED_SECTIONS or bounds[0] == bounds[1]:
            values = ",".join(dict.fromkeys(bounds))
            self._refuse("an interval has no values to make studies of", f"list some, as in {self.key}={values}")
        whole = all("." not in bound and "e" not in bound for bound in bounds)
        sampling = ", sampling: log" if "log" in interval.tags else ""
        examples = [find_value(value, "min_value", value) for value in self._find_defaults()]
        examples += [item for value in examples for item in find_value(value, "values", ())]
        kind = "int" if whole and any(isinstance(value, int) for value in examples) else "float"
        tunable = f"{{tune: {kind}, min_value: {bounds[0]}, max_value: {bounds[1]}{sampling}}}"
        self._refuse(
            "an interval has no values to make studies of",
            f"search it within one study: write {shlex.quote(f'{self.key}={tunable}')}",
        )

    def _takes_one_value(self) -> bool:
        """Whether the key holds one value, or a tunable of such, in every option that sets it."""
        defaults = self._find_defaults()
        return self.key == "seed" or (
            any(isinstance(value, int | float | str) or is_tunable(value) for value in defaults)
            and not any(isinstance(value, list) for value in defaults)
        )

    def _refuse_listed_values(self) -> None:
        """Refuse a list where one value is meant."""
        values = self.parsed.get_value_element_as_str()[1:-1]
        sweep = f"{self.key}={values}"
        advice = f"write {shlex.quote(sweep)}" if values else "name one value"
        if "," in values and not self.is_multirun:
            advice = self._advise_sweep(sweep)
        if "," in values:
            advice = f"for a study of each {advice}{self._advise_tunable(values)}"
        self._refuse(f"{self.key} takes one value, not a list", advice)

    def _refuse_sweep(self) -> None:
        advice = self._advise_sweep(self.typed)
        if self.parsed.is_choice_sweep() and self.key not in list_groups():
            values = self._join_values()
            if any(isinstance(value, list) for value in self._find_defaults()):
                advice += f", or for one list {shlex.quote(f'{self.key}=[{values}]')}"
            else:
                advice += self._advise_tunable(values)
        self._refuse("several values are several studies", advice)

    def _advise_tunable(self, values: str) -> str:
        if self.key.partition(".")[0] not in _TUNED_SECTIONS:
            return ""
        tunable = f"{self.key}={{tune: choice, values: [{values}]}}"
        return f", or to search them within one study {shlex.quote(tunable)}"

    def _advise_sweep(self, meant: str) -> str:
        """What to type so that there is a study of each value."""
        if self.build_sweep is None:
            return "give one value"
        command = self.build_sweep([meant if word == self.typed else word for word in self.overrides])
        return f"type {command}" if len(command) <= 4 * MOST_QUOTED else "type the same command with -m"

    def _find_defaults(self) -> list[Any]:
        """What the options of its group set the key to."""
        contents = [content for _, content in read_options(self.key.partition(".")[0])]
        return [find_value(content, self.key) for content in contents if has_key(content, self.key)]

    def _join_values(self) -> str:
        return ",".join(self.parsed.sweep_string_iterator())

    def _refuse(self, reason: str, advice: str) -> NoReturn:
        raise ConfigError(f"{_shorten(self.typed)} (command line): {reason}; {advice}.")


def _format_number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _refuse_clash(first: Override, first_text: str, second: Override, second_text: str) -> None:
    """Raise ConfigError if one override would silently undo the other."""
    if first.is_delete() or second.is_delete() or first.package != second.package:
        return
    key, other = first.key_or_group, second.key_or_group
    reason = None
    if key == other:
        reason = f"{key} is given twice"  # and one of them is several studies
    elif key.startswith(f"{other}.") and other not in list_groups():
        reason = f"the second replaces all of {other}, and with it the first"
    elif other.startswith(f"{key}.") and key not in list_groups() and not isinstance(first.value(), dict):
        reason = f"the first makes {key} one value, which has no {other.removeprefix(key)[1:]}"
    if reason is not None:
        raise ConfigError(f"{_shorten(first_text)} {_shorten(second_text)} (command line): {reason}; leave one out.")


def _shorten(text: str) -> str:
    return quote_text(text, MOST_QUOTED)
