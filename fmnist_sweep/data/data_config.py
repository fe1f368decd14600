"""The schema of the config group `data`; every default lives in its YAML, none here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    create_model,
    model_validator,
)

from fmnist_sweep.data.description import find_label_problem, find_name_problem
from fmnist_sweep.plugins import DATA_SOURCES, read_keyword_parameters

# More than any set of such images has, so that neither a header nor a number typed can fill the memory: 784 MB.
MAX_IMAGES = 1_000_000

# Of Fashion-MNIST and of what stands in for it; the images of any other source are a user's own.
FASHION_MNIST_SOURCES = ("fashion_mnist", "kaggle_csv", "drawn")


def _check_source(source: str) -> str:
    if source not in DATA_SOURCES:
        raise ValueError(f"expected one of {', '.join(DATA_SOURCES)}")
    return source


class DataConfig(BaseModel):
    """What to learn from, and how much of it is held out.

    `include_validation` trains on the validation images too, which then judge nothing. `limit` counts images
    before the validation split; `images` counts the training images that `drawn` draws (its test set has a
    sixth as many), also where it stands in for Fashion-MNIST.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: Annotated[str, AfterValidator(_check_source)]
    # An empty FMNIST_DATA_DIR names no folder; as a path it would be the working directory.
    dir: Annotated[str | None, BeforeValidator(lambda folder: folder or None)]
    download: bool
    limit: int | None = Field(ge=20)
    validation: float = Field(gt=0, lt=1)
    include_validation: bool
    split_seed: int = Field(ge=0)
    fallback: Literal["drawn"] | None
    images: int = Field(ge=20, le=MAX_IMAGES)
    drawn_seed: int = Field(ge=0)

    @property
    def settings(self) -> dict[str, Any]:
        """The source's own settings: the keyword-only parameters of the function that reads it."""
        return {}

    def describe_content(self) -> dict[str, Any]:
        """Describe which images are used, and not where they are: the data section of a trial's config.yaml."""
        settings = self.model_dump(exclude={"dir", "download", "fallback"})
        if not self.include_validation:  # as trials were described before there was that choice
            del settings["include_validation"]
        return settings


def _split_to_tuple(value: Any) -> Any:
    """A list as a tuple, which can be hashed; labels that are numbers as texts."""
    if isinstance(value, list):
        return tuple(str(each) if type(each) is int else each for each in value)
    return value


def _check_labels(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    problem = None if labels is None else find_label_problem(labels)
    if problem is not None:
        raise ValueError(problem)
    return labels


def _check_name(name: str | None) -> str | None:
    problem = None if name is None else find_name_problem(name)
    if problem is not None:
        raise ValueError(problem)
    return name


def _list(value: tuple[Any, ...] | None) -> list[Any] | None:
    return None if value is None else list(value)


class OwnDataConfig(DataConfig):
    """A user's own images.

    name: what they are called, by default as their folder or file. labels: their names; None: those of the folders, or
    the numbers in the files. test: the share of the images that is sealed as the test part where the source has none of
    its own, and `test_seed` which share. Nothing of it is ever downloaded or drawn. `choose_data_schema` makes a
    subclass for a source that has settings of its own.
    """

    name: Annotated[str | None, AfterValidator(_check_name)]
    labels: Annotated[
        tuple[str, ...] | None, BeforeValidator(_split_to_tuple), AfterValidator(_check_labels), PlainSerializer(_list)
    ]
    test: float = Field(gt=0, lt=1)
    test_seed: int = Field(ge=0)
    download: bool = False
    fallback: Literal["drawn"] | None = None
    images: int = Field(default=20, ge=20, le=MAX_IMAGES)
    drawn_seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _name_after_folder(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("name") is None and isinstance(values.get("dir"), str):
            path = Path(values["dir"])
            name = path.stem if path.suffix == ".npz" else path.expanduser().absolute().name
            if find_name_problem(name) is not None:
                raise ValueError(
                    f"the images are called as their folder, {name!r}, which no model can be called: give data.name"
                )
            return {**values, "name": name}
        return values

    def describe_content(self) -> dict[str, Any]:
        """Describe which images are used, and not where they are: the data section of a trial's config.yaml."""
        settings = super().describe_content()
        return {key: value for key, value in settings.items() if key not in ("images", "drawn_seed")}

    @property
    def settings(self) -> dict[str, Any]:
        """The source's own settings: the keyword-only parameters of the function that reads it."""
        return {key: getattr(self, key) for key in type(self).model_fields if key not in OwnDataConfig.model_fields}

    def __reduce__(self) -> tuple[Any, ...]:  # a subclass that was made has no module that a worker could import
        return _restore_config, (dict(vars(self)),)


def _restore_config(values: Mapping[str, Any]) -> OwnDataConfig:
    """The config of these checked values. In a worker, the plugin of its source may not be active yet."""
    schema = choose_data_schema(values["source"])
    return (schema if issubclass(schema, OwnDataConfig) else OwnDataConfig).model_construct(**values)


def choose_data_schema(source: Any) -> type[DataConfig]:
    """The schema of a data section with this source."""
    registration = DATA_SOURCES.find_registration(source)
    if registration is None or source in FASHION_MNIST_SOURCES:
        return DataConfig
    return _make_source_schema(registration.function)


@cache
def _make_source_schema(function: Callable[..., Any]) -> type[OwnDataConfig]:
    """The schema of the section of images that this function reads: its keyword-only parameters are keys, too."""
    fields: dict[str, Any] = {
        key: (annotation, ... if default is Parameter.empty else default)
        for key, (annotation, default) in read_keyword_parameters(function).items()
        if key not in DATA_SOURCES.handed
    }
    return create_model(function.__name__, __base__=OwnDataConfig, **fields) if fields else OwnDataConfig
