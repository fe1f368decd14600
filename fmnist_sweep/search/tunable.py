"""Tunables: mappings in a config that stand for values the search chooses.

    filters: {tune: choice, values: [32, 64, 96]}

`tune` names a KerasTuner method (choice, int, float, boolean); the other keys are that method's own arguments. Beside
them, `when` names other tunables and the values that they must have for this one to be drawn, and `otherwise` is the
value where they have others.

    dense_units: {tune: choice, values: [64, 128], when: {model.conv_layers: [1, 2]}, otherwise: 32}

The options of a whole group may be searched, too: `{tune: option, of: [adam, sgd]}`, to which `config.options` adds the
`settings` of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError, WrapValidator, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

TUNE_KEY = "tune"
OPTION = "option"  # what `tune` names where the options of a whole group are searched
# More than any search can use: numbers beyond it overflow, or would be counted for ever.
MAX_COUNT = 1_000_000
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
# Values of one tunable that KerasTuner may be made to list.
MAX_LISTED_VALUES = 10_000


class _Tunable(BaseModel):
    """What all tunables have. when: the values of other tunables with which it is drawn; else it is `otherwise`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    when: Annotated[dict[str, Annotated[list[int | float | str | bool], Field(min_length=1)]], Field(min_length=1)] = {}
    otherwise: Any = None

    @model_validator(mode="after")
    def _check_condition(self) -> _Tunable:
        given = self.model_fields_set & {"when", "otherwise"}
        if given == {"when"}:
            raise ValueError("when says with which values of other tunables this one is drawn; add otherwise: VALUE")
        if given == {"otherwise"}:
            raise ValueError("otherwise is the value where `when` does not hold; add when: {KEY: [VALUE]}")
        return self

    def find_drawn(self, value: Any) -> Any:
        """The value equal to this one that the tunable may draw; None if it never draws it."""
        for drawn in self.list_values() or ():
            if drawn == value and isinstance(drawn, bool) == isinstance(value, bool):
                return drawn
        return None

    def list_values(self) -> list[Any] | None:
        """All values that it may draw, if they can be listed."""
        raise NotImplementedError


class Choice(_Tunable):
    """One of `values`, all of one type."""

    tune: Literal["choice"]
    values: Annotated[list[int | float | str | bool], Field(min_length=1)]
    ordered: bool | None = None
    default: int | float | str | bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Choice:
        kinds = {type(value).__name__ for value in self.values}
        if len(kinds) > 1:
            raise ValueError(f"the values of a choice must be of one type, not {' and '.join(sorted(kinds))}")
        if len(set(self.values)) < len(self.values):
            raise ValueError("a choice must list each value once")
        if self.default is not None and self.default not in self.values:
            raise ValueError("the default must be one of the values")
        return self

    def list_extremes(self) -> list[Any]:
        return list(self.values)

    def list_values(self) -> list[Any]:
        return list(self.values)


class _Range(_Tunable):
    min_value: float
    max_value: float
    step: float | None = None
    sampling: Literal["linear", "log", "reverse_log"] = "linear"
    default: float | None = None

    @model_validator(mode="after")
    def _check(self) -> _Range:
        if self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value} is above max_value {self.max_value}")
        if self.sampling != "linear" and self.min_value <= 0:
            raise ValueError(f"sampling {self.sampling} needs a min_value above 0, not {self.min_value}")
        if self.step is not None and self.step <= (0 if self.sampling == "linear" else 1):
            raise ValueError("step must be above 0, and above 1 with logarithmic sampling, where it multiplies")
        if self.default is not None and not self.min_value <= self.default <= self.max_value:
            raise ValueError("the default must lie between min_value and max_value")
        return self

    def list_extremes(self) -> list[Any]:
        return [self.min_value, self.max_value]

    def count_steps(self) -> float:
        """How many values there are with the step, which is given: whole, or math.inf. None of them is listed."""
        step = self.step or 1
        try:
            if self.sampling == "linear":
                span = (self.max_value - self.min_value) / step
            else:
                span = math.log(self.max_value / self.min_value, step)
        except ZeroDivisionError:  # the logarithm of a step next to 1
            return math.inf
        return math.floor(span + 1e-8) + 1 if math.isfinite(span) else math.inf

    def list_steps(self) -> list[float]:
        """The values with the step, which is given, from the smallest on."""
        low, high, step = self.min_value, self.max_value, self.step or 1
        indices = range(int(self.count_steps()))
        if self.sampling == "linear":
            values = [low + index * step for index in indices]
        elif self.sampling == "log":
            values = [low * step**index for index in indices]
        else:
            values = sorted(high + low - low * step**index for index in indices)
        return [round_float(value) for value in values]


class Int(_Range):
    """A whole number from min_value to max_value, both included."""

    tune: Literal["int"]
    min_value: int
    max_value: int
    step: int | None = None
    default: int | None = None

    def find_drawn(self, value: Any) -> Any:
        is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
        if not is_whole or not self.min_value <= value <= self.max_value:
            return None
        if self.step is None:
            return int(value)
        if self.sampling == "linear":
            return int(value) if (value - self.min_value) % self.step == 0 else None
        return super().find_drawn(value)

    def list_values(self) -> list[Any] | None:
        if self.step is None or self.count_steps() > MAX_LISTED_VALUES:
            return None
        return list(map(int, self.list_steps()))


class Float(_Range):
    """A number from min_value to max_value."""

    tune: Literal["float"]

    @model_validator(mode="after")
    def _check_steps(self) -> Float:
        # As they are listed (see `space.build_hyperparameters`).
        if self.step is not None and (count := self.count_steps()) > MAX_LISTED_VALUES:
            raise ValueError(
                f"a step of {self.step} makes {count:,.0f} values, and at most {MAX_LISTED_VALUES:,} can be stepped "
                "through; widen it, or leave it out to draw any number"
            )
        return self

    def list_values(self) -> list[Any] | None:
        if self.step is None:
            return [self.min_value] if self.min_value == self.max_value else None
        return self.list_steps()


class Boolean(_Tunable):
    """true or false."""

    tune: Literal["boolean"]
    default: bool = False

    def list_extremes(self) -> list[Any]:
        return [False, True]

    def list_values(self) -> list[Any]:
        return [False, True]


TUNABLE_KINDS: dict[str, type[Choice] | type[Int] | type[Float] | type[Boolean]] = {
    "choice": Choice,
    "int": Int,
    "float": Float,
    "boolean": Boolean,
}


def is_tunable(value: object) -> bool:
    """Whether a config value is a tunable, which the search chooses."""
    return isinstance(value, Mapping) and TUNE_KEY in value


def is_option_choice(value: object) -> bool:
    """Whether a config value stands for a whole group, of whose options the search chooses one."""
    return isinstance(value, Mapping) and value.get(TUNE_KEY) == OPTION


def parse_tunable(value: Mapping[str, Any]) -> Choice | Int | Float | Boolean:
    """Parse a mapping as a tunable. Raises pydantic.ValidationError or ValueError if it describes none."""
    kind = TUNABLE_KINDS.get(str(value[TUNE_KEY]))
    if kind is None:
        raise ValueError(f"tune: {value[TUNE_KEY]} is unknown; allowed: {', '.join(TUNABLE_KINDS)}")
    return kind.model_validate(dict(value))


def list_extremes(value: Any) -> list[Any]:
    """The values between which a tunable draws, its ends or all that are listed; of anything else, itself."""
    return parse_tunable(value).list_extremes() if is_tunable(value) else [value]


def _validate_value(value: object, validate_fixed: Callable[[Any], Any]) -> Any:
    if not (isinstance(value, Mapping) and is_tunable(value)):
        return validate_fixed(value)
    parsed = parse_tunable(value)
    for extreme in parsed.list_extremes():  # whatever the search may draw must be valid, too
        try:
            validate_fixed(extreme)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]
            if reason["type"] == "value_error":
                message = reason["msg"].removeprefix("Value error, ")
                raise PydanticCustomError(
                    "refused_draw", "may draw {value}, but {said}", _list_facts(extreme, message)
                ) from None
            raise PydanticCustomError("outside_draw", "may draw {value}", _list_facts(extreme, "")) from None
    if parsed.when:
        try:
            validate_fixed(parsed.otherwise)
        except ValidationError:
            facts = _list_facts(parsed.otherwise, "")
            raise PydanticCustomError("outside_draw", "otherwise is {value}", facts) from None
    return dict(value)


def _list_facts(value: object, message: str) -> dict[str, Any]:
    return {"value": str(value), "said": message}


@dataclass(frozen=True)
class _TunableValidator(WrapValidator):
    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "tunable": True}  # lets a message say that a tunable is allowed here


# `Annotated[int, Field(ge=1), TUNABLE]`: an integer from 1 up, or a tunable that draws only such integers. The
# static type is that of the resolved value, because code after `space.resolve_tunables` sees only resolved values.
TUNABLE = _TunableValidator(_validate_value)


def round_float(value: float) -> float:
    """A drawn number: nobody wants to read, filter by or type 0.30000000000000004, which is 3 * 0.1."""
    return float(f"{value:.10g}")
