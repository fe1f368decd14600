"""Texts on the command line, such as paths: quoted for Hydra's grammar where it would refuse or change them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Annotated, Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from pydantic import BaseModel

from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.config.schema import EXECUTORS, TrackingConfig
from fmnist_sweep.data.data_config import DataConfig, OwnDataConfig
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

_PARSER = OverridesParser.create()
# What is quoted, calls one of the grammar's functions, or refers to another value.
_OWN_SYNTAX = re.compile(
    r"^\s*(['\"]|(bool|choice|float|glob|int|interval|range|shuffle|sort|str|tag)\s*\()|\$\{", re.IGNORECASE
)


def quote_texts(overrides: Sequence[str], *, is_multirun: bool = False) -> dict[str, str]:
    """Each override as Hydra is to read it, with what was typed.

    The value of a key that holds a text, and the name of an option, is put in quotes where the grammar refuses it
    (`data.dir=/home/my images`) or reads something else than a text (`data.dir=2026`). In a multirun commas part texts.
    What is typed twice stands in its last place: the last override of a key counts.
    """
    typed: dict[str, str] = {}
    for override in overrides:
        quoted = _quote_override(override, is_multirun)
        typed.pop(quoted, None)
        typed[quoted] = override
    return typed


def restore_typed(overrides: Iterable[str], typed: Mapping[str, str]) -> list[str]:
    """The overrides of a job as they were typed. typed: of `quote_texts`."""
    return [typed.get(override) or _unquote(override, typed) for override in overrides]


def _unquote(override: str, typed: Mapping[str, str]) -> str:
    """One of several values that were typed with commas between them, without the quotes that were not typed."""
    key, _, value = override.partition("=")
    if not value.startswith("'") or any(value in text for text in typed.values()):
        return override
    parsed = parse_override(override)
    return override if parsed is None else f"{key}={parsed.value()}"


@lru_cache(maxsize=512)  # each override is asked for four times and more until it is composed
def parse_override(override: str) -> Override | None:
    """An override as Hydra's grammar has it; None if it refuses it. Raises ConfigError for too long a number."""
    try:
        return _PARSER.parse_override(override)
    except HydraException:
        return None
    except ValueError as error:
        reason = str(error).partition(";")[0]
        raise ConfigError(f"{quote_text(override)} (command line): cannot be read ({reason}); shorten it.") from None


def _quote_override(override: str, is_multirun: bool) -> str:
    if override == "experiment=null":  # to Hydra only a text is an option
        return "~experiment"
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    is_group = name in list_groups()
    if not value.strip() or not equals or not (is_group or name in list_text_keys()):
        return override
    # No option's name has a comma: several are meant. A text may have one.
    separates = is_multirun or (is_group and "," in value)
    parsed = parse_override(override)
    if parsed is None:
        if _OWN_SYNTAX.search(value) or (value.strip()[0] in "[{" and not _is_closed(value)):
            return override
        parts = value.split(",") if separates else [value]
        return f"{key}={','.join(_quote_unless_text(key, part) for part in parts)}"
    content: Any = parsed.value()
    if isinstance(content, ChoiceSweep) and content.simple_form:
        if not separates:
            return f"{key}={_quote(value)}"
        if set(value) & set("'\"[{("):  # a comma may stand within them
            return override
        return f"{key}={','.join(_quote_unless_text(key, part) for part in value.split(','))}"
    return f"{key}={_quote_unless_text(key, value)}"


def _is_closed(value: str) -> bool:
    return all(value.count(opening) == value.count(closing) for opening, closing in ("[]", "{}"))


def _quote_unless_text(key: str, value: str) -> str:
    """A value, in quotes if Hydra's grammar refuses it or reads a number or a truth value."""
    parsed = parse_override(f"{key}={value}")
    return _quote(value) if parsed is None or isinstance(parsed.value(), int | float) else value


def _quote(text: str) -> str:
    return QuotedString(text.strip(), Quote.single).with_quotes()


@cache
def list_text_keys() -> frozenset[str]:
    """The dotted keys whose values are any text."""
    schemas: dict[str, list[type[BaseModel]]] = {
        "data": [DataConfig, OwnDataConfig],
        "tracking": [TrackingConfig],
        "executor": list(EXECUTORS.values()),
    }
    return frozenset(
        f"{section}.{key}"
        for section, models in schemas.items()
        for model in models
        for key, field in model.model_fields.items()
        if _takes_text(field.annotation) and (section, key) != ("data", "source")
    ) | {"search.like"}  # the beginning of a run id may be all digits


def _takes_text(annotation: Any) -> bool:
    if get_origin(annotation) in (list, tuple):
        return False
    if get_origin(annotation) is Annotated:
        return _takes_text(get_args(annotation)[0])
    return annotation is str or any(_takes_text(part) for part in get_args(annotation) if not isinstance(part, str))
