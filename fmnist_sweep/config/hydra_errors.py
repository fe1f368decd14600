"""Hydra's and OmegaConf's errors in one sentence: what is wrong, and what is allowed instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.config.known_keys import list_known_keys, list_options_with, suggest_keys
from fmnist_sweep.config.refusals import MOST_QUOTED, list_allowed_options, suggest_closest
from fmnist_sweep.masking import mask_address
from fmnist_sweep.text import quote_text

# The functions of Hydra's grammar that stand for a value or several.
_FUNCTIONS = {
    "choice": "choice(A,B)",
    "glob": "glob(PATTERN) or glob([PATTERN,PATTERN],exclude=PATTERN)",
    "interval": "interval(START,END)",
    "range": "range(START,STOP) or range(START,STOP,STEP), of numbers",
    "shuffle": "shuffle(A,B)",
    "sort": "sort(A,B)",
    "tag": "tag(NAME,choice(A,B))",
    **{cast: f"{cast}(VALUE)" for cast in ("bool", "float", "int", "str", "json_str")},
}
_CALL = re.compile(r"\w+ while evaluating '((\w+)\(.*\))': (.*)")


def describe_hydra_error(error: BaseException) -> str:
    """Describe an error of Hydra or OmegaConf: what is wrong, and what is allowed instead."""
    text = str(error).partition("Config search path")[0]
    override = getattr(error, "override", None)
    if override is not None:
        return _describe_unreadable(str(override), text)
    key_match = re.search(r"Could not override '([^']+)'", text)
    if key_match:
        addition = re.search(r"use \+(.*)", text, re.DOTALL)
        full_key = getattr(error.__cause__, "full_key", None) or key_match.group(1)
        return _describe_unknown_key(
            key_match.group(1), str(full_key), addition.group(1) if addition else key_match.group(1)
        )
    option_match = re.search(r"In '([^']+)': Could not find '([^']+)/([^'/]*)'", text)
    if option_match:
        source, group, name = option_match.groups()
        return _describe_unknown_option(source, group, name, allowed=re.findall(r"\n\t(\S+)", text))
    merge_match = re.search(r"Error merging override ([^=]+)=(.*)", text)
    if merge_match:
        return _describe_other_kind(*merge_match.groups())
    deletion_match = re.search(r"Could not delete from config\. '([^']+)'", text)
    if deletion_match:
        return f"~{deletion_match.group(1)} (command line): there is no such key to delete, or it is null already."
    duplicate_match = re.search(r"An item is already at '([^']+)'", text)
    if duplicate_match:
        return f"+{duplicate_match.group(1)} (command line): there is such a key already; leave out the +."
    if "override must be a string" in text:
        return "a config group cannot be null: name one of its options, as in model=cnn."
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    return f"{'; '.join(lines[:2])}." if lines else f"{type(error).__name__}."


def _describe_unreadable(override: str, text: str) -> str:
    key, equals, value = override.partition("=")
    lines = [line for line in text.splitlines() if not line.startswith(("See ", "Error parsing"))]
    position = -1
    masked = mask_address(override)
    if masked != override:  # Hydra quotes a part of it, perhaps of the password
        return (
            f"{quote_text(masked, MOST_QUOTED)} (command line): cannot be read; expected KEY=VALUE, in single quotes."
        )
    lexer_match = re.match(r"LexerNoViableAltException: (.*)\n( *)\^", text, re.DOTALL)
    if not equals:
        reason = "there is no ="
    elif lexer_match:
        position = len(lexer_match.group(2)) - len("LexerNoViableAltException: ")
        reason = f"unexpected {override[position : position + 1]!r}"
    else:
        reason = lines[0].strip() if lines else "unknown grammar"
    call = _CALL.match(lines[0]) if lines else None
    if equals and call:
        problem = _describe_call(call[1], call[2], call[3], override)
        return f"{quote_text(override, MOST_QUOTED)} (command line): {problem}."
    is_closed = all(value.count(pair[0]) == value.count(pair[1]) for pair in ("()", "[]", "{}"))
    if equals and lexer_match and position < len(key):
        expected = "expected KEY=VALUE, the key without spaces and as docs/configuration.md has it"
    elif equals and lexer_match and is_closed and not set(value) & set("'\"[{"):
        quoted = shlex.quote(f'{key}="{value}"')
        expected = f"a text with such characters stands in quotes of its own, as in {quoted}"
    else:
        expected = (
            "expected KEY=VALUE, in single quotes where it has spaces, quotes, brackets or braces, each of them closed"
        )
    return f"{quote_text(override, MOST_QUOTED)} (command line): cannot be read ({quote_text(reason)}); {expected}."


def _describe_call(call: str, function: str, reason: str, override: str) -> str:
    """What is wrong with the call of a function of Hydra's grammar, and what to type instead."""
    if function in _FUNCTIONS:
        reason = "an argument of another kind" if reason.startswith("mismatch type") else reason
        return f"{quote_text(call)} cannot be read ({quote_text(reason)}); write {_FUNCTIONS[function]}"
    key, _, value = override.partition("=")
    quoted = shlex.quote(f'{key}="{value}"')
    return (
        f"there is no function {quote_text(function)}; there are {', '.join(sorted(_FUNCTIONS))}, and a text with "
        f"brackets stands in quotes of its own, as in {quote_text(quoted)}"
    )


def _describe_unknown_option(source: str, group: str, option: str, allowed: Sequence[str]) -> str:
    place = "command line" if source == "config" else f"{source}.yaml"
    alternatives = list_allowed_options(group, option, allowed, f"{group}=")
    return f"{group}={quote_text(option)} ({place}): no such option; {alternatives}"


def _describe_unknown_key(key: str, full_key: str, override: str) -> str:
    """The message for an override of a key that the composed config does not have.

    key: as typed. full_key: the missing one, which is below `key` if a mapping was typed. override: as typed.
    """
    shown = quote_text(override, MOST_QUOTED)
    if full_key.startswith(f"{key}.") and key in list_groups():
        return _describe_unknown_key(full_key, full_key, override)
    if full_key.startswith(f"{key}."):
        return _describe_other_kind(key, override.partition("=")[2])
    group, _, name = key.rpartition(".")
    allowed = list_known_keys(group)
    if not allowed:
        keys = suggest_keys(group)
        if keys and keys != [group]:
            return f"{shown} (command line): unknown key; did you mean {' or '.join(keys)}?"
        return (
            f"{shown} (command line): {group} holds no keys here; give it whole, as in '{group}={{{name}: ..., ...}}'."
        )
    if group and name in allowed:
        top = group.split(".")[0]
        options = ", ".join(f"{top}={option}" for option in list_options_with(key))
        return f"{shown} (command line): the chosen {top} has no such key; it belongs to {options}."
    prefix = f"{group}." if group else ""
    elsewhere = [meant for meant in suggest_keys(name) if meant != key] if not suggest_closest(name, allowed) else []
    hint = f"did you mean {' or '.join(elsewhere)}? " if elsewhere else suggest_closest(name, allowed, prefix)
    return f"{shown} (command line): unknown key; {hint}allowed: {', '.join(allowed)}."


def _describe_other_kind(key: str, value: str) -> str:
    """The message for a value that does not fit into the mapping that it would change."""
    if key == "hydra.mode":
        return f"{key}={quote_text(value)} (command line): expected RUN or MULTIRUN."
    return (
        f"{key}={quote_text(value, MOST_QUOTED)} (command line): {key} is a mapping of another kind; to replace it "
        f"whole, give '~{key}' '+{key}=VALUE'."
    )
