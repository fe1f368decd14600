"""What a schema refuses, in one sentence: the key, the value, what is allowed, and where it was written."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from fmnist_sweep.config.overrides import format_override_value, quote_override_value
from fmnist_sweep.search import tunable
from fmnist_sweep.text import quote_text

MOST_QUOTED = 200  # characters of what was typed, in a message

# Takes a dotted key; says where its value was written.
Locator = Callable[[str], str]


def describe_validation_error(
    section: str, value: Mapping[str, Any], schema: type[BaseModel], error: ValidationError, locate: Locator
) -> str:
    """Describe the first mistake, and say how many more there are."""
    errors = error.errors(include_url=False)
    first = errors[0]
    path = _find_real_keys([str(part) for part in first["loc"]], value)
    key = ".".join([section, *path])
    subschema, _ = _find_subschema(schema.model_json_schema(), path, value)
    value_text = f"={quote_override_value(first['input'])}"
    match first["type"]:
        case _ if "when" in path:
            reason = "expected names of tunables and lists of their values, as in when: {model.conv_layers: [2, 3]}"
        case "extra_forbidden":
            parent_schema = _find_inner_schema(*_find_subschema(schema.model_json_schema(), path[:-1], value))
            # What all tunables may have comes after what one of this kind has.
            allowed = sorted(parent_schema.get("properties", {}), key=lambda key: key in ("when", "otherwise"))
            reason = describe_unknown_key(path[-1], allowed)
        case "missing":
            value_text, reason = "", f"missing; expected {_describe_schema(subschema)}"
        case "value_error" | "refused_draw":
            reason = first["msg"].removeprefix("Value error, ")
        case "outside_draw":
            reason = f"{first['msg']}; expected {_describe_schema({**subschema, 'tunable': False})}"
        case _:
            reason = f"expected {_describe_schema(subschema)}"
    places = {tuple(_find_real_keys([str(part) for part in detail["loc"]], value)) for detail in errors}
    count_text = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    # A key that is missing below a mapping is missing where that mapping was written.
    place = locate(key.rpartition(".")[0]) if first["type"] == "missing" and len(path) > 1 else locate(key)
    return f"{quote_text(key, MOST_QUOTED)}{value_text} ({place}): {reason}{count_text}."


def _find_real_keys(path: Iterable[str], value: Any) -> list[str]:
    """The part of an error's path that is in the config; pydantic adds the names of union members."""
    keys = []
    has_missing = False
    for part in path:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit():
            value = value[int(part)]
        elif isinstance(value, Mapping) and not has_missing:
            has_missing = True  # the key that should have been there
        else:
            continue
        keys.append(part)
    return keys


def _find_subschema(schema: Mapping[str, Any], path: Sequence[str], value: Any) -> tuple[Mapping[str, Any], Any]:
    """The part of a JSON schema for a path, and the value at that path (None: missing)."""
    definitions = schema.get("$defs", {})
    for part in path:
        inner_schema = _find_inner_schema(schema, value)
        schema = _inline_definitions(
            inner_schema.get("properties", {}).get(part) or inner_schema.get("items", {}), definitions
        )
        if isinstance(value, list):
            value = value[int(part)]
        elif isinstance(value, Mapping):
            value = value.get(part)
    return schema, value


def _find_inner_schema(schema: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """The schema of a value's keys or items: for a tunable, that of its kind."""
    if tunable.is_tunable(value) and str(value[tunable.TUNE_KEY]) in tunable.TUNABLE_KINDS:
        return tunable.TUNABLE_KINDS[str(value[tunable.TUNE_KEY])].model_json_schema()
    options = schema.get("anyOf", [schema])
    return next((option for option in options if "properties" in option or "items" in option), schema)


def _inline_definitions(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema in which the definitions that it refers to are written out."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        schema = {**definitions[name], **{key: schema[key] for key in schema if key != "$ref"}}
    if "anyOf" in schema:
        schema = {**schema, "anyOf": [_inline_definitions(option, definitions) for option in schema["anyOf"]]}
    return schema


def _describe_schema(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema allows."""
    tunable_text = ", or a mapping with the key tune" if schema.get("tunable") else ""
    if "anyOf" in schema:
        return " or ".join(_describe_schema(option) for option in schema["anyOf"]) + tunable_text
    if "enum" in schema or "const" in schema:
        return _join_values(schema.get("enum", [schema.get("const")])) + tunable_text
    match schema.get("type"):
        case "integer" | "number" as kind:
            words = ("a whole number" if kind == "integer" else "a number") + _describe_range(schema)
        case "boolean":
            words = "true or false"
        case "null":
            words = "null"
        case "string":
            words = "a text" + (f" of 1 to {schema['maxLength']} characters" if "maxLength" in schema else "")
        case "array":
            limit_text = f"at most {schema['maxItems']}" if "maxItems" in schema else "any number"
            count_text = "one or more" if schema.get("minItems") else limit_text
            words = f"a list of {count_text}, each {_describe_schema(schema.get('items', {}))}"
        case "object":
            keys = ", ".join(schema.get("properties", {}))
            words = f"a mapping with the keys {keys}" if keys else "a mapping"
        case _:
            words = "another value"
    return words + tunable_text


def _describe_range(schema: Mapping[str, Any]) -> str:
    low = f" from {schema['minimum']}" if "minimum" in schema else ""
    low = f" above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else low
    if "maximum" in schema:
        return f"{low}{' to ' if 'minimum' in schema else ' and up to '}{schema['maximum']}"
    if "exclusiveMaximum" in schema:
        return f"{low}{' and' if low else ''} below {schema['exclusiveMaximum']}"
    return f"{low} up" if "minimum" in schema else low


def _join_values(values: Sequence[Any]) -> str:
    *others, last = [format_override_value(value) for value in values]
    return f"{', '.join(others)} or {last}" if others else last


def describe_unknown_key(key: str, allowed: Iterable[str], meant: Sequence[str] = ()) -> str:
    """Say that a key is unknown, which one may be meant, and which there are. meant: keys elsewhere that may be."""
    allowed = list(allowed)
    hint = suggest_closest(key, allowed) or (f"did you mean {' or '.join(meant)}? " if meant else "")
    return f"unknown key; {hint}allowed: {', '.join(allowed)}"


def list_allowed_options(group: str, option: str, allowed: Sequence[str], prefix: str = "") -> str:
    """What may be chosen in place of an unknown option of a group, as the end of a sentence. prefix: of the closest."""
    closest = suggest_closest(option, allowed, prefix)
    own = "" if closest else f"; an option of your own is found with --config-dir FOLDER, in FOLDER/{group}/"
    return f"{closest}allowed: {', '.join(allowed)}{own}."


def suggest_closest(name: str, allowed: Iterable[str], prefix: str = "") -> str:
    """The question whether the allowed name most like this one is meant, or nothing; prefix: written before it."""
    close_matches = difflib.get_close_matches(name, list(allowed), n=1)
    return f"did you mean {prefix}{close_matches[0]}? " if close_matches else ""
