"""The words of a command line: Hydra's options, wherever they stand, and the overrides."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.config.known_keys import FLAGS, find_keys, list_options, suggest_keys
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

_WRITTEN_OUT = ("--experimental-rerun", "--version")  # never abbreviated: --experiment would be the first of them
_VALUES = {"--config-dir": "FOLDER", "--package": "SECTION", "--cfg": "job"}  # for examples


@dataclass(frozen=True)
class Arguments:
    """A command line in the order that Hydra reads: its options, then the overrides."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    options: argparse.Namespace  # Hydra's, with the overrides


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Tell Hydra's options and the overrides apart, in whatever order they stand.

    Raises ConfigError for an option that Hydra does not have, one without its value, and one given twice.
    """
    for word in arguments:
        _refuse_undecodable(word)
    parser = _make_parser()
    flags, overrides = _split_arguments(arguments, parser)
    options = parser.parse_args([*flags, *(["--"] if overrides else []), *overrides])
    return Arguments(tuple(flags), tuple(overrides), options)


def _refuse_undecodable(word: str) -> None:
    try:
        word.encode()
    except UnicodeEncodeError:
        shown = word.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise ConfigError(
            f"{quote_text(shown)}: these bytes are no text in UTF-8; rename what they name, and type the new name."
        ) from None


def _make_parser() -> argparse.ArgumentParser:
    from hydra._internal.utils import get_args_parser

    return get_args_parser()


def _split_arguments(arguments: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """The options of a command line, written out, and its overrides."""
    actions: dict[str, argparse.Action] = parser._option_string_actions
    flags: dict[str, list[str]] = {}
    overrides: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [part for flag in flags.values() for part in flag], [*overrides, *words]
        if not word.startswith("-"):
            overrides.append(word)
            continue
        typed, equals, value = word.partition("=")
        name = _complete_name(typed, actions)
        if name is None:
            raise ConfigError(_describe_unknown_flag(word, words, actions))
        flag = _read_flag(word, actions[name], value if equals else None, words)
        if flags.setdefault(flag[0], flag) != flag:
            raise ConfigError(
                f"{' '.join(flags[flag[0]])} {' '.join(flag)}: {flag[0]} is given twice; leave one of them out."
            )
    return [part for flag in flags.values() for part in flag], overrides


def _complete_name(typed: str, actions: dict[str, argparse.Action]) -> str | None:
    """The option that was typed, perhaps abbreviated; None: none, or there is a choice of them."""
    if typed in actions:
        return typed
    if not typed.startswith("--"):
        return None
    names = [name for name in actions if name.startswith(typed) and name not in _WRITTEN_OUT]
    return names[0] if len(names) == 1 else None


def _read_flag(word: str, action: argparse.Action, value: str | None, words: list[str]) -> list[str]:
    """An option, written out, and its value; taken from the words that follow if it is not among its own."""
    name = next(name for name in action.option_strings if name.startswith("--"))
    if action.nargs == 0:
        if value is not None:
            raise ConfigError(f"{quote_text(word)}: {name} takes no value; write {word.partition('=')[0]} alone.")
        return [name]
    choices = list(action.choices or ())
    if value is None and action.nargs == "?":
        return [name, words.pop(0) if words and words[0] in choices else str(action.const)]
    if value is None and words and not words[0].startswith("-"):
        value = words.pop(0)
    expected = f"one of {', '.join(choices)}" if choices else _VALUES.get(name, "a value")
    example = f"{name} {choices[0] if choices else _VALUES.get(name, 'VALUE')}"
    if not value:
        raise ConfigError(f"{quote_text(word)}: expected {expected} after it, as in {example}.")
    if choices and value not in choices:
        raise ConfigError(f"{name} {quote_text(value)}: expected {expected}, as in {example}.")
    return [name, value]


def _describe_unknown_flag(word: str, following: Sequence[str], actions: dict[str, argparse.Action]) -> str:
    typed, equals, value = word.partition("=")
    name = typed.lstrip("-")
    keys = find_keys(name)
    if not keys and not word.startswith("--"):
        joined = _split_joined(word, actions)
        if joined:
            return f"{quote_text(word)}: a short option stands alone; write {joined}."
    if not equals and following and not following[0].startswith("-") and "=" not in following[0]:
        value, word = following[0], f"{word} {following[0]}"
    names = [option for option in actions if option.startswith(typed)] if typed.startswith("--") else []
    keys = keys or ([] if names else suggest_keys(name))
    if keys:
        meant = suggest_overrides(keys, value)
        return f"{quote_text(word)}: a setting is written KEY=VALUE, without dashes; write {meant}."
    names = names or difflib.get_close_matches(typed, [option for option in actions if option[:2] == "--"], 1, 0.75)
    hint = f"did you mean {' or '.join(names)}? " if names else ""
    return (
        f"{quote_text(word)}: there is no such option; {hint}a setting is written KEY=VALUE, without dashes, as in "
        "train.epochs=3 (python -m fmnist_sweep --help lists the groups, --hydra-help the options)."
    )


def _split_joined(word: str, actions: dict[str, argparse.Action]) -> str | None:
    """What joined short options mean, as they are to be typed; None if they do not begin with one."""
    for length in (3, 2):
        name, rest = word[:length], word[length:].lstrip("=")
        if name in actions and rest:
            if actions[name].nargs == 0 and "=" not in rest:  # another option may follow
                return f"{name} {_split_joined(f'-{rest}', actions) or (f'-{rest}' if f'-{rest}' in actions else rest)}"
            return f"{name} {shlex.quote(rest)}"
    return None


def suggest_overrides(keys: Sequence[str], value: str) -> str:
    """The overrides that may be meant, quoted for a shell: a key for each, with a value, or an example of one."""
    return " or ".join(shlex.quote(f"{key}={value or _find_example(key)}") for key in keys)


def _find_example(key: str) -> str:
    if key in FLAGS:
        return "true"
    return list_options(key)[0] if key in list_groups() else "VALUE"


def suggest_override(word: str, following: Sequence[str]) -> str | None:
    """The override that a word without a = and those after it may mean; None if it is no key."""
    words = [part for part in [word, *following][:3] if part != "="]
    name, colon, value = words[0].partition(":")
    keys = suggest_keys(name.lstrip("+~")) if re.fullmatch(r"[\w.\-+~]+", name) else []
    if not keys:
        return None
    if not colon and len(words) > 1 and not words[1].startswith("-") and not re.search(r"[^=]=", words[1]):
        value = words[1].lstrip("=")
    return suggest_overrides(keys, value)
