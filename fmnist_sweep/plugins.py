"""What a config may name: models, optimizers, sources of images, metrics and more, each registered by a decorator.

    from fmnist_sweep.plugins import model

    @model
    def separable(*, filters: Annotated[int, Field(ge=1, le=512)]) -> keras.Model: ...

The function's name is its name in a config (`model.builder=separable`). Its keyword-only parameters are the schema of
its settings: each annotation says what is allowed, and each setting may be fixed or tunable. The project registers its
own functions in the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints, overload

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.text import quote_text

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class RegisteredFunction:
    """A registered function. plugin: the name of the plugin that it is of, None for the project's own."""

    name: str
    function: Callable[..., Any]
    plugin: str | None
    changes_within_epochs: bool = False  # of a schedule: each batch has a rate of its own
    positional: tuple[str, ...] | None = None  # where it differs from its registry's
    has_test: Callable[[Any], bool] | None = None  # of a source with parts: whether there is a test part at a path


class Registry(Mapping[str, Callable[..., Any]]):
    """The functions of one kind, by name.

    positional: the parameters that each function is called with, in their order. handed: the keyword-only parameters
    that the project fills in, if a function has them; all others are settings. reserved: names that no function may
    have. common: keys that the section of the config has anyway, so that no setting may be called so.
    """

    def __init__(
        self,
        kind: str,
        positional: tuple[str, ...] = (),
        handed: tuple[str, ...] = (),
        reserved: tuple[str, ...] = (),
        common: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.positional, self.handed, self.reserved, self.common = kind, positional, handed, reserved, common
        self._registrations: dict[str, RegisteredFunction] = {}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._registrations[name].function

    def __iter__(self) -> Iterator[str]:
        return iter(self._registrations)

    def __len__(self) -> int:
        return len(self._registrations)

    def __hash__(self) -> int:  # as an object: a registry is one of a kind
        return id(self)

    def find_registration(self, name: object) -> RegisteredFunction | None:
        """The registration of this name, or None."""
        return self._registrations.get(name) if isinstance(name, str) else None

    def register(self, registration: RegisteredFunction) -> None:
        """Add a function. Raises ConfigError if its name is taken, or if its signature is no schema."""
        self._refuse_signature(registration)
        if registration.name in self.reserved:
            raise ConfigError(f"{_describe(registration, self.kind)}: this name is taken; rename the function.")
        other = self._registrations.get(registration.name)
        if other is not None and other.function is not registration.function:
            owner = "the project's own" if other.plugin is None else f"one of {other.plugin}"
            raise ConfigError(
                f"{_describe(registration, self.kind)}: there already is {owner} with this name; rename the function."
            )
        self._registrations[registration.name] = registration

    def drop_plugins(self) -> None:
        """Leave only the project's own functions."""
        self._registrations = {name: each for name, each in self._registrations.items() if each.plugin is None}

    def takes(self, name: str, parameter: str) -> bool:
        """Whether the function of this name has a parameter that the project fills in."""
        return parameter in inspect.signature(self[name]).parameters

    def _refuse_signature(self, registration: RegisteredFunction) -> None:
        shown, parameters = _describe(registration, self.kind), inspect.signature(registration.function).parameters
        fixed = [each for each in parameters.values() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        kinds = {each.kind for each in fixed}
        positional = self.positional if registration.positional is None else registration.positional
        is_open = bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})
        if is_open or len(fixed) != len(positional):
            first = f"{', '.join(positional)}, then " if positional else ""
            raise ConfigError(
                f"{shown}: expected the parameters {first}only keyword-only ones (after a *), found "
                f"{inspect.signature(registration.function)}."
            )
        for key, (annotation, _) in read_keyword_parameters(registration.function, shown).items():
            if key in self.common:
                raise ConfigError(
                    f"{shown}: its parameter {key} has the name of a key of every {self.kind}; rename it."
                )
            if annotation is inspect.Parameter.empty and key not in self.handed:
                raise ConfigError(
                    f"{shown}: its parameter {key} has no annotation, which is the schema of the setting {key}; write "
                    f"one, as in {key}: int."
                )


def read_keyword_parameters(function: Callable[..., Any], shown: str = "") -> dict[str, tuple[Any, Any]]:
    """The annotation and the default (inspect.Parameter.empty: none) of each keyword-only parameter.

    Annotations that are texts, as with `from __future__ import annotations`, are evaluated where the function stands.
    Raises ConfigError, which begins with `shown`, if one cannot be.
    """
    parameters = {
        name: each
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }
    annotated = {name: each.annotation for name, each in parameters.items() if each.annotation is not each.empty}
    hints: dict[str, Any] = {}
    for name, annotation in annotated.items():
        holder: Any = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)
        except Exception as error:
            raise ConfigError(
                f"{shown or function.__name__}: the annotation of its parameter {name} cannot be evaluated "
                f"({quote_text(f'{type(error).__name__}: {error}', 200)}); import what it names."
            ) from error
    return {name: (hints.get(name, each.empty), each.default) for name, each in parameters.items()}


MODELS = Registry("model", handed=("regularization", "image_shape", "labels"))
OPTIMIZERS = Registry("optimizer")
SCHEDULES = Registry("schedule", positional=("base", "finished_epochs", "epochs", "history"))
AUGMENTATIONS = Registry("augmentation", positional=("images",), handed=("seed", "epoch"))
ORACLES = Registry("oracle", positional=("hyperparameters", "common", "epochs"), handed=("seed",))
DATA_SOURCES = Registry(
    "data source",
    positional=("path", "part"),
    handed=("image_shape", "choose", "may_download", "drawn_count", "drawn_seed"),
    common=(
        *("source", "dir", "download", "limit", "validation", "include_validation", "split_seed", "fallback"),
        *("images", "name", "labels", "test", "test_seed"),
    ),
)
METRICS = Registry("metric", positional=("labels", "probabilities"), reserved=("accuracy", "loss"))
REGISTRIES = (MODELS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS, ORACLES, DATA_SOURCES, METRICS)

_collected: list[tuple[Registry, RegisteredFunction]] | None = None  # while a plugin is imported
_importing: str | None = None


@contextmanager
def collect_registrations(plugin: str) -> Iterator[list[tuple[Registry, RegisteredFunction]]]:
    """Collect what decorators register in the block as that plugin's, instead of adding it to the registries."""
    global _collected, _importing
    before = (_collected, _importing)
    _collected, _importing = [], plugin
    try:
        yield _collected
    finally:
        _collected, _importing = before


def model(function: _Function) -> _Function:
    """Register a builder: keyword arguments in, an uncompiled keras.Model of raw pixels out.

    The project fills in `regularization`, `image_shape` and `labels` (their number) of a builder that has them. One
    without `regularization` has no such settings; one without the other two is for 28x28x1 pixels and ten labels.
    """
    return _register(MODELS, function)


def optimizer(function: _Function) -> _Function:
    """Register an optimizer: keyword arguments, learning_rate among them, in, a keras.Optimizer out."""
    return _register(OPTIMIZERS, function)


def schedule(function: _Function) -> _Function:
    """Register a schedule: (base rate, finished epochs, total epochs, history, its settings) to the next epoch's rate.

    history: a mapping of metrics for each epoch so far.
    """
    return _register(SCHEDULES, function)


def batch_schedule(function: _Function) -> _Function:
    """Register a schedule that is asked for the rate of each batch, and counts parts of an epoch as finished."""
    return _register(SCHEDULES, function, changes_within_epochs=True)


def augmentation(function: _Function) -> _Function:
    """Register an augmentation: training images (n, height, width, channels) uint8 in, as many of them, changed, out.

    Whatever it draws at random follows from `seed` and `epoch` alone, which it takes: so a trial continues exactly.
    """
    return _register(AUGMENTATIONS, function)


@overload
def data_source(function: _Function, /) -> _Function: ...
@overload
def data_source(
    *, name: str = "", has_test: Callable[[Any], bool] | None = None
) -> Callable[[_Function], _Function]: ...
def data_source(
    function: Callable[..., Any] | None = None, /, *, name: str = "", has_test: Callable[[Any], bool] | None = None
) -> Callable[..., Any]:
    """Register a source of images: a path in, images (n, height, width, channels) uint8 and labels (n,) out.

    Labels are whole numbers or names. With a second parameter, `part`, which is "train" or "test", it gives that part;
    without, a test part is cut from what it gives, and sealed. has_test: of a source with parts, takes the path and
    says whether there is a test part; where there is none, it is cut from the training part.

    Keyword-only parameters are settings. The project fills in `image_shape` (of the training images when a test part is
    read, else None), and `choose` where a test part is cut (else None): it takes a key (bytes) and the label of each
    image and returns a mask of those to give, so that a source need not read the others.
    """

    def register(registered: _Function) -> _Function:
        parameters = inspect.signature(registered).parameters.values()
        has_parts = sum(each.kind is not inspect.Parameter.KEYWORD_ONLY for each in parameters) != 1
        positional = None if has_parts else ("path",)
        return _register(DATA_SOURCES, registered, name=name, positional=positional, has_test=has_test)

    return register if function is None else register(function)


def oracle(function: _Function) -> _Function:
    """Register an oracle: the space and the trials so far in, the values of the next trial, or None for an end, out.

    space: the tunable of each name. trials: in their order, each with `values`, `score` (the higher, the better; None
    where there is none) and `state` (running, finished, failed). Whatever it draws at random follows from the trials
    and from `seed`, which it takes: it is asked again when a search continues.
    """
    return _register(ORACLES, function, positional=("space", "trials"))


def keras_oracle(function: _Function) -> _Function:
    """Register create_NAME_oracle, which creates an oracle of KerasTuner's kind, under NAME."""
    return _register(ORACLES, function, name=function.__name__.removeprefix("create_").removesuffix("_oracle"))


def metric(function: _Function) -> _Function:
    """Register a metric: labels (n,) and probabilities (n, labels) in, a number out."""
    return _register(METRICS, function)


def _register(registry: Registry, function: _Function, *, name: str = "", **traits: Any) -> _Function:
    registration = RegisteredFunction(name or function.__name__, function, _importing, **traits)
    if _collected is None:
        registry.register(registration)
    else:
        _collected.append((registry, registration))
    return function


def _describe(registration: RegisteredFunction, kind: str) -> str:
    place = "" if registration.plugin is None else f"{registration.plugin}: "
    return f"{place}the {kind} {registration.name}"
