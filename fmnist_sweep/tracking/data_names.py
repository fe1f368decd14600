"""What the images of an experiment are called: the name of its registered model, kept with the experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmnist_sweep.data.description import find_name_problem
from fmnist_sweep.errors import StoreError
from fmnist_sweep.text import quote_text
from fmnist_sweep.tracking.names import DATA_NAME_TAG, MODEL_NAME

if TYPE_CHECKING:
    from mlflow.entities import Experiment


def build_data_name_tags(name: str) -> dict[str, str]:
    """The tags of a new experiment for images of this name; none for Fashion-MNIST, whose experiments never had any."""
    return {} if name == MODEL_NAME else {DATA_NAME_TAG: name}


def read_data_name(experiment: Experiment) -> str:
    """What the images of an experiment are called. Raises StoreError for a name that no sweep writes."""
    name = experiment.tags.get(DATA_NAME_TAG)
    if name is None:
        return MODEL_NAME
    problem = find_name_problem(name)
    if problem is not None:
        raise StoreError(
            f"the tag {DATA_NAME_TAG} of the experiment {experiment.name} is {quote_text(name)!r}, which no sweep "
            f"writes ({problem}): remove it or name another experiment."
        )
    return str(name)


def refuse_other_name(experiment: Experiment, name: str) -> None:
    """Raise StoreError if the images of an experiment have another name than this."""
    stored_name = read_data_name(experiment)
    if stored_name != name:
        raise StoreError(
            f"tracking.experiment={experiment.name} holds trials of {stored_name}, and these images are called {name}: "
            "name another experiment, or the data as before."
        )
