"""Options of a group that one study searches: each is composed as if it had been chosen, and checked to stay alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.config.overrides import parse_override_key, quote_override_value
from fmnist_sweep.config.refusals import MOST_QUOTED, list_allowed_options
from fmnist_sweep.config.schema import OPTION_GROUPS
from fmnist_sweep.config.text_values import parse_override
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.tunable import OPTION, TUNE_KEY, is_option_choice, is_tunable
from fmnist_sweep.text import quote_text

# Takes the overrides of one job; composes them.
Compose = Callable[[Sequence[str]], DictConfig]
# Takes GROUP/OPTION; composes it alone, by section. Raises HydraException or ConfigError.
ComposeOption = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class OptionChoice:
    """The options of a group that a study searches. typed: the override that says so; None where a file does."""

    group: str
    options: tuple[str, ...]
    typed: str | None

    @property
    def shown(self) -> str:
        """What a message quotes."""
        value = {TUNE_KEY: OPTION, "of": list(self.options)}
        text = self.typed or f"{self.group}={quote_override_value(value)}"
        return f"{quote_text(text, MOST_QUOTED)} ({'a config file' if self.typed is None else 'command line'})"


def compose_with_options(overrides: Sequence[str], compose: Compose, compose_option: ComposeOption) -> DictConfig:
    """The config of one job; a group whose options are searched is {tune: option, of: [...], settings: {...}}.

    `settings` holds the section as each option composes it, alone among the others. An override of GROUP.OPTION.KEY
    is one of that option's KEY; any other override counts for all options. Raises ConfigError.
    """
    choices = {choice.group: choice for choice in map(read_choice, overrides) if choice is not None}
    choices = {group: choice for group, choice in choices.items() if _is_last_choice(choice, overrides)}
    for choice in choices.values():
        _check_options(choice, compose_option)
    shared = [word for word in overrides if _find_own_option(word) is None and read_choice(word) is None]
    typed = {group: choice.options[0] for group, choice in choices.items()}
    config = _compose_options(shared, typed, compose)
    for group in OPTION_GROUPS:
        section: Any = OmegaConf.to_container(config[group], resolve=False) if config.get(group) else {}
        if group not in choices and is_option_choice(section):
            if set(section) - {TUNE_KEY, "of"} and _is_chosen(group, overrides):  # a recipe's, overridden
                _set_section(config, group, _drop_choice(section))
            else:
                choices[group] = _parse_choice(group, section, None)
                _check_options(choices[group], compose_option)
    plain = [word for word in overrides if read_choice(word) is None or parse_override_key(word) in choices]
    if not choices:
        return config if len(shared) == len(plain) else compose(plain)
    for word in overrides:
        _refuse_other_option(word, choices)
    first = {group: choice.options[0] for group, choice in choices.items()}
    if first != typed or len(shared) != sum(read_choice(word) is None for word in plain):
        config = _compose_options(plain, first, compose)
    return _compose_choices(plain, choices, config, compose)


def _compose_choices(
    overrides: Sequence[str], choices: Mapping[str, OptionChoice], config: DictConfig, compose: Compose
) -> DictConfig:
    """Compose the other options. config: with the first option of each group; it is changed."""
    first = {group: choice.options[0] for group, choice in choices.items()}
    sections: dict[str, Any] = {}
    for group, choice in choices.items():
        settings = {}
        for option in choice.options:
            composed = config if option == first[group] else None
            composed = composed or _compose_options(overrides, {**first, group: option}, compose)
            settings[option] = _drop_choice(OmegaConf.to_container(composed[group], resolve=True))
        sections[group] = {TUNE_KEY: OPTION, "of": list(choice.options), "settings": settings}
    for group, section in sections.items():
        _set_section(config, group, section)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.overrides.task = [word for word in overrides if not parse_override_key(word).startswith("hydra.")]
        for group, choice in choices.items():
            config.hydra.runtime.choices[group] = ", ".join(choice.options)
    return config


def _compose_options(overrides: Sequence[str], options: Mapping[str, str], compose: Compose) -> DictConfig:
    """The config with one option of each of these groups. Raises ConfigError, which names what was typed."""
    words, typed = [], {}
    for word in overrides:
        key = parse_override_key(word)
        own = _find_own_option(word)
        if key in options:  # the choice itself, or one before it
            continue
        if own is not None and own[0] in options:
            if own[1] == options[own[0]]:
                group, option = own
                word, text = word.replace(f"{group}.{option}.", f"{group}.", 1), word
                typed[word] = text
                words.append(word)
            continue
        words.append(word)
    words += [f"{group}={option}" for group, option in options.items()]
    try:
        return compose(words)
    except ConfigError as error:
        message = str(error)
        for word, text in typed.items():
            message = message.replace(word, text)
        where = ", ".join(f"{group}={option}" for group, option in options.items())
        raise ConfigError(f"{message.removesuffix('.')} (as composed with {where})." if where else message) from None


def read_choice(override: str) -> OptionChoice | None:
    """The choice of options that an override types; None if it types none."""
    parsed = parse_override(override)
    value: Any = None if parsed is None or parsed.is_sweep_override() else parsed.value()
    if parsed is None or not is_tunable(value) or parsed.key_or_group not in list_groups():
        return None
    group = parsed.key_or_group
    if group not in OPTION_GROUPS:
        raise ConfigError(
            f"{quote_text(override, MOST_QUOTED)} (command line): one study searches the options of "
            f"{', '.join(OPTION_GROUPS)} only; for a study of each option write {group}=A,B with -m."
        )
    if not is_option_choice(value):
        raise ConfigError(
            f"{quote_text(override, MOST_QUOTED)} (command line): {group} is a group; to search its options "
            f"write '{group}={{tune: option, of: [A, B]}}', and to tune one of its keys {group}.KEY={{...}}."
        )
    return _parse_choice(group, value, override)


def _parse_choice(group: str, value: Mapping[str, Any], typed: str | None) -> OptionChoice:
    options = value.get("of")
    names = tuple(options) if isinstance(options, list) else ()
    choice = OptionChoice(group, tuple(map(str, names)), typed)
    unknown = [str(key) for key in value if key not in (TUNE_KEY, "of")] if typed is not None else []
    if unknown:
        raise ConfigError(f"{choice.shown}: unknown key {unknown[0]}; allowed: {TUNE_KEY}, of.")
    if not names or not all(isinstance(name, str) for name in names):
        example = f"{group}={{tune: option, of: [{', '.join(_list_available(group)[:2])}]}}"
        raise ConfigError(f"{choice.shown}: `of` lists one or more options of {group}, as in '{example}'.")
    doubled = [name for name in choice.options if choice.options.count(name) > 1]
    if doubled:
        raise ConfigError(f"{choice.shown}: `of` lists {doubled[0]} twice; leave one out.")
    return choice


def _check_options(choice: OptionChoice, compose_option: ComposeOption) -> None:
    """Raise ConfigError for an option that there is not, or that is more than settings of its group."""
    group, available = choice.group, _list_available(choice.group)
    for option in choice.options:
        if option not in available:
            allowed = list_allowed_options(group, option, available)
            raise ConfigError(f"{choice.shown}: {group} has no option {quote_text(option)}; {allowed}")
        sections = _read_sections(group, option, compose_option)
        others = [key for key in sections if key != group]
        if others:
            raise ConfigError(
                f"{choice.shown}: the option {option} also sets {', '.join(others)}, and an option that is searched "
                f"may set {group} only; leave it out, or make a study of it with -m {group}={','.join(choice.options)}."
            )
        if is_option_choice(sections.get(group)):
            raise ConfigError(
                f"{choice.shown}: the option {option} is itself a choice of options; list those instead of it."
            )


def _list_available(group: str) -> list[str]:
    """The options of a group, in conf/ and in the folder of --config-dir."""
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG))


def _refuse_other_option(override: str, choices: Mapping[str, OptionChoice]) -> None:
    """Refuse an override of an option that is not among those of its group that are searched."""
    group, option = _find_own_option(override) or ("", "")
    if group in choices and option not in choices[group].options:
        raise ConfigError(
            f"{quote_text(override, MOST_QUOTED)} (command line): {option} is none of the options of {group} in this "
            f"study, which are {', '.join(choices[group].options)}; add it to `of`, or leave this out."
        )


def _read_sections(group: str, option: str, compose_option: ComposeOption) -> dict[str, Any]:
    """What an option sets by itself, its defaults list included, by section of the config."""
    try:
        return compose_option(f"{group}/{option}")
    except HydraException as error:  # there is nothing that `override /train: cosine` could override
        other = re.search(r"Could not override '(\w+)", str(error))
        if other is None:
            raise
        return {other[1]: None}


def _is_last_choice(choice: OptionChoice, overrides: Sequence[str]) -> bool:
    """Whether no override after it chooses a single option: the last one counts."""
    words = [word for word in overrides if parse_override_key(word) == choice.group]
    return words[-1] == choice.typed


def _is_chosen(group: str, overrides: Sequence[str]) -> bool:
    return any(parse_override_key(word) == group for word in overrides)


def _find_own_option(override: str) -> tuple[str, str] | None:
    """The group and the option of an override GROUP.OPTION.KEY=VALUE; None for any other."""
    key = parse_override_key(override)
    group, _, rest = key.partition(".")
    if group not in OPTION_GROUPS or "." not in rest:  # Hydra takes a sixtieth of a second to list options
        return None
    fits = [option for option in _list_available(group) if rest.startswith(f"{option}.")]
    return (group, max(fits, key=len)) if fits else None


def _drop_choice(section: Any) -> dict[str, Any]:
    """A section without what says that options of its group are searched."""
    return {key: value for key, value in section.items() if key not in (TUNE_KEY, "of")}


def _set_section(config: DictConfig, group: str, section: Mapping[str, Any]) -> None:
    with open_dict(config):
        config[group] = section
