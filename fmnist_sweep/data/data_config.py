"""The schema of the config group `data`; every default lives in its YAML, none here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from fmnist_sweep.data.description import MAX_SIDE, find_label_problem, find_name_problem
from fmnist_sweep.plugins import DATA_SOURCES

# More than any set of such images has, so that neither a header nor a number typed can fill the memory: 784 MB.
MAX_IMAGES = 1_000_000

Source = Literal["fashion_mnist", "kaggle_csv", "drawn", "idx", "npz", "folder"]
OwnSource = Literal["idx", "npz", "folder"]  # of images that are a user's own
OWN_SOURCES: tuple[str, ...] = get_args(OwnSource)


class DataConfig(BaseModel):
    """What to learn from, and how much of it is held out.

    `include_validation` trains on the validation images too, which then judge nothing. `limit` counts images
    before the validation split; `images` counts the training images that `drawn` draws (its test set has a
    sixth as many), also where it stands in for Fashion-MNIST.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: Source
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


def _make_sides(value: Any) -> Any:
    """A list of height and width, or one number for both, as a pair. Raises ValueError for anything else."""
    if value is None:
        return None
    sides = (value, value) if type(value) is int else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise ValueError(f"expected [height, width], or one number for both, each from 1 to {MAX_SIDE} pixels")
    return sides


def _list(value: tuple[Any, ...] | None) -> list[Any] | None:
    return None if value is None else list(value)


class OwnDataConfig(DataConfig):
    """A user's own images.

    name: what they are called, by default as their folder or file. labels: their names; None: those of the folders, or
    the numbers in the files. test: the share of the images that is sealed as the test part where the source has none of
    its own, and `test_seed` which share. Nothing of it is ever downloaded or drawn.
    """

    source: OwnSource
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


class FolderDataConfig(OwnDataConfig):
    """A folder of pictures. size: height and width that all are given; None where all have one size. channels: 1 for
    grey, 3 for colour; None: 3 if any training picture has colours.
    """

    source: Literal["folder"]
    size: Annotated[tuple[int, int] | None, BeforeValidator(_make_sides), PlainSerializer(_list)]
    channels: Literal[1, 3] | None


def _check_plugin_source(source: str) -> str:
    if source not in DATA_SOURCES:
        raise ValueError(f"expected one of {', '.join([*get_args(Source), *DATA_SOURCES])}")
    return source


class PluginDataConfig(OwnDataConfig):
    """Images that a function of a plugin reads. source: the function's name."""

    source: Annotated[str, AfterValidator(_check_plugin_source)]  # type: ignore[assignment]


def choose_data_schema(source: Any) -> type[DataConfig]:
    """The schema of a data section with this source."""
    if source == "folder":
        return FolderDataConfig
    if isinstance(source, str) and source in DATA_SOURCES:
        return PluginDataConfig
    return OwnDataConfig if source in OWN_SOURCES else DataConfig
