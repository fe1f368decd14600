"""What images are, apart from their pixels: what they are called, their shape, and the names of their labels."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LABELS: tuple[str, ...] = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

IMAGE_SIDE = 28  # pixels of an image of Fashion-MNIST, across and down

MAX_SIDE = 512  # pixels: images of whole photographs are resized before they are learnt from
MAX_LABELS = 256
# A description is kept in a tag of a run, of which MLflow keeps 8,000 characters.
MAX_TEXT_LENGTH = 7_000
# It becomes the name of an experiment and of a registered model, part of an address and of a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# A label is part of the name of a metric, for which MLflow takes these.
_LABEL = re.compile(r"[\w.\-/ ]{1,64}")


@dataclass(frozen=True)
class DataDescription:
    """What a set of images is.

    name: of the set, after which the experiment and the registered model are called. image_shape: height, width and
    channels (1 or 3). labels: their names, in the order of the numbers that stand for them. similar_labels: those that
    look most alike and are judged as a block too, called `similar_name`; merged_labels: those that a report also counts
    as one. Both are empty where no such labels are known.
    """

    name: str
    image_shape: tuple[int, int, int]
    labels: tuple[str, ...]
    similar_name: str = ""
    similar_labels: tuple[str, ...] = ()
    merged_labels: tuple[str, ...] = ()
    hardest_label: str | None = None  # whose mistakes have a figure of their own

    @property
    def is_fashion_mnist(self) -> bool:
        """Whether these are images as Fashion-MNIST's are, the drawn stand-in among them."""
        return self == FASHION_MNIST

    @property
    def pixel_count(self) -> int:
        """Numbers an image."""
        return math.prod(self.image_shape)


FASHION_MNIST = DataDescription(
    name="fashion-mnist",
    image_shape=(IMAGE_SIDE, IMAGE_SIDE, 1),
    labels=LABELS,
    similar_name="upper body",
    similar_labels=("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"),
    merged_labels=("T-shirt/top", "Shirt"),
    hardest_label="Shirt",
)


def find_name_problem(name: str) -> str | None:
    """Why a set of images cannot have this name; None if it can."""
    if not _NAME.fullmatch(name):
        return "a name has letters, digits, -, _ and ., at most 64, and begins with a letter or digit"
    if name == FASHION_MNIST.name:
        return "Fashion-MNIST itself has this name"
    return None


def find_label_problem(labels: Sequence[str]) -> str | None:
    """Why labels cannot have these names; None if they can."""
    if not 2 <= len(labels) <= MAX_LABELS:
        return f"expected 2 to {MAX_LABELS} labels, found {len(labels)}"
    for label in labels:
        if not _LABEL.fullmatch(label) or label != label.strip():
            return (
                f"the label {label[:64]!r} has a character that no metric's name can have (letters, digits, spaces, "
                "- _ . and / are allowed), or is empty or longer than 64"
            )
    repeated = [label for place, label in enumerate(labels) if label in labels[:place]]
    if repeated:
        return f"the label {repeated[0]!r} is there twice"
    if sum(map(len, labels)) + 8 * len(labels) > MAX_TEXT_LENGTH - 200:
        return "their names are too long together"
    return None


def format_description(description: DataDescription) -> str:
    """A description as text, from which `parse_description` makes it again."""
    content = {"name": description.name, "shape": list(description.image_shape), "labels": list(description.labels)}
    return json.dumps(content, ensure_ascii=False)


@lru_cache(maxsize=64)  # every trial of a study has the same
def parse_description(text: str) -> DataDescription:
    """The description that a text stands for. Raises ValueError if it stands for none."""
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError("it is too long")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict) or set(content) != {"name", "shape", "labels"}:
        raise ValueError("it is no description of data")
    name, shape, labels = content["name"], content["shape"], content["labels"]
    is_shape = isinstance(shape, list) and len(shape) == 3 and all(type(side) is int for side in shape)
    if not is_shape or not all(1 <= side <= MAX_SIDE for side in shape[:2]) or shape[2] not in (1, 3):
        raise ValueError("its shape is none of an image")
    if not isinstance(name, str) or not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise ValueError("its name or labels are no texts")
    problem = find_name_problem(name) or find_label_problem(labels)
    if problem is not None:
        raise ValueError(problem)
    return DataDescription(name, (shape[0], shape[1], shape[2]), tuple(labels))
