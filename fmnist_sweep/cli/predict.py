"""The verb `predict`: label pictures of garments with the registered model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fmnist_sweep.cli.options import EXPERIMENT, PLUGINS, URI, check_new_picture
from fmnist_sweep.errors import ConfigError, StoreError, UserError
from fmnist_sweep.text import echo
from fmnist_sweep.tracking.names import CHAMPION_ADDRESS, TEST_ACCURACY_TAG

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from fmnist_sweep.data.pictures.photographs import Photograph
    from fmnist_sweep.tracking.registry import RegisteredVersion

_LABEL_COUNT = 10  # the length of LABELS, whose import would slow down every --help


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@URI
@EXPERIMENT
@PLUGINS
@click.option("--model", "address", default=CHAMPION_ADDRESS, show_default=True, help="The version to use.")
@click.option(
    "--top",
    type=click.IntRange(1, _LABEL_COUNT),
    default=3,
    show_default=True,
    help="How many labels to print, likeliest first.",
)
@click.option(
    "--picture", type=click.Path(path_type=Path), default=None, help="A new .png file to draw what the model saw."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def predict(
    images: tuple[Path, ...],
    uri: str | None,
    experiment: str,
    plugins: tuple[str, ...],
    address: str,
    top: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Label pictures of garments with the registered model: PNG, JPEG, BMP, GIF or WEBP files of any size.

    Each should show one garment on a plain background. It is converted to 28x28 pixels, bright on black, like the
    pictures of Fashion-MNIST; what was done to it is printed beneath the labels, and what was a guess above them. A
    model of other images gets each picture as it is, in the size of these.
    """
    from fmnist_sweep.data.pictures import photographs
    from fmnist_sweep.tracking.registry import open_version
    from fmnist_sweep.tracking.version_files import load_version
    from fmnist_sweep.training.own_code import activate_typed

    _check_picture(picture, len(images))
    activate_typed(plugins)
    try:
        store, version = open_version(uri, experiment, address)
    except UserError:
        for path in images:  # what is wrong with a picture is said first
            photographs.read_photograph(path)
        raise
    photos = [read_picture_for(path, version) for path in images]
    labels = version.data.labels
    rows = predict_probabilities(load_version(store, version), photos, len(labels))
    if picture is not None:
        _draw_predictions(picture, photos, rows, _describe_model(version), labels)
    if as_json:
        echo(json.dumps(build_values(version, photos, rows, top), indent=1))
        return
    echo(_describe_model(version))
    for photograph, row in zip(photos, rows, strict=True):
        echo("\n".join(_format_lines(photograph, row, labels, top)))


def read_picture_for(path: Path, version: RegisteredVersion) -> Photograph:
    """A picture in the form that a version's model was trained on: of garments, or as it is."""
    from fmnist_sweep.data.own.model_input import read_own_picture
    from fmnist_sweep.data.pictures import photographs

    description = version.data
    return photographs.read_photograph(path) if description.is_fashion_mnist else read_own_picture(path, description)


def predict_probabilities(
    model: keras.Model, photos: Sequence[Photograph], label_count: int = _LABEL_COUNT
) -> NDArray[np.float64]:
    """Compute a model's probabilities for pictures: (n, label_count), in the order of the data's labels.

    model: takes uint8, 0..255, of the pictures' shape. Raises StoreError if it returns something else.
    """
    import numpy as np

    from fmnist_sweep.training.batches import predict_images

    pixels = np.stack([photograph.pixels for photograph in photos])
    outputs: NDArray[np.float64] = np.asarray(predict_images(model, pixels, 256), np.float64)
    if outputs.shape != (len(photos), label_count) or not np.isfinite(outputs).all():
        raise StoreError(
            f"the model does not label {'Fashion-MNIST' if label_count == _LABEL_COUNT else 'these images'}: expected "
            f"{label_count} probabilities per picture, found "
            f"{outputs.shape[1:]} values, or some that are not numbers: name another version with --model."
        )
    return outputs


def build_values(
    version: RegisteredVersion, photos: Sequence[Photograph], rows: NDArray[np.float64], top: int
) -> dict[str, Any]:
    """Build what --json prints: the version that answered, each picture's labels, and what was done to it."""
    labels = version.data.labels
    return {
        "model": {
            "name": version.model_name,
            "version": version.number,
            "run_id": version.run_id,
            "test_accuracy": _read_test_accuracy(version),
        },
        "images": [
            {
                "file": photograph.name,
                "label": labels[int(row.argmax())],
                "top": [{"label": label, "probability": share} for label, share in _rank_labels(row, labels, top)],
                "probabilities": dict(zip(labels, row.tolist(), strict=True)),
                "assumptions": photograph.assumptions,
                "warnings": photograph.warnings,
            }
            for photograph, row in zip(photos, rows, strict=True)
        ],
    }


def _rank_labels(row: NDArray[np.float64], labels: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The likeliest labels and their probabilities; ties in the order of the labels."""
    return [(labels[label], float(row[label])) for label in (-row).argsort(kind="stable")[:top]]


def _format_lines(photograph: Photograph, row: NDArray[np.float64], names: Sequence[str], top: int) -> list[str]:
    width = max(11, *map(len, names)) if len(names) != _LABEL_COUNT else 11
    labels = [f"  {label:<{width}} {share:6.1%}" for label, share in _rank_labels(row, names, top)]
    warnings = [f"  Warning: {warning}" for warning in photograph.warnings]
    return [photograph.name, *warnings, *labels, f"  ({'; '.join(photograph.assumptions) or 'taken as it is'})"]


def _describe_model(version: RegisteredVersion) -> str:
    name = f"models:/{version.model_name}/{version.number}"
    accuracy = _read_test_accuracy(version)
    if accuracy is None:
        return f"{name}, no test accuracy recorded"
    owner = "Fashion-MNIST's own" if version.data.is_fashion_mnist else f"{version.model_name}'s own test"
    return f"{name}, test accuracy {accuracy:.4f} on {owner} images; expect less on others"


def _read_test_accuracy(version: RegisteredVersion) -> float | None:
    try:
        return float(version.tags[TEST_ACCURACY_TAG])
    except (KeyError, ValueError):  # not there, or altered by hand
        return None


def _check_picture(path: Path | None, count: int) -> None:
    from fmnist_sweep.report.figures.predictions import MAX_PICTURES

    check_new_picture(path)
    if path is not None and count > MAX_PICTURES:
        raise ConfigError(
            f"--picture draws at most {MAX_PICTURES} images, but was given {count}: give fewer at a time."
        )


def _draw_predictions(
    path: Path, photos: Sequence[Photograph], rows: NDArray[np.float64], title: str, labels: Sequence[str]
) -> None:
    from fmnist_sweep.files import write_file_atomically
    from fmnist_sweep.report.figures.canvas import encode_png
    from fmnist_sweep.report.figures.predictions import draw_predictions

    content = encode_png(draw_predictions(photos, rows, title, labels))
    try:
        write_file_atomically(path, content)
    except OSError as error:
        raise ConfigError(f"--picture={path} cannot be written ({error.strerror or error}): name another.") from None
    echo(f"{path}: each picture, the pixels that the model saw, its probabilities", err=True)
