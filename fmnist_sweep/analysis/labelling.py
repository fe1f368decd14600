"""Images that every good trial gets wrong: whether their labels, or only the models, are in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.analysis.probability_checks import check_sums
from fmnist_sweep.training.array_checks import check_range


@dataclass(frozen=True)
class Suspect:
    """An image on which the trials agree with one another but not with its label.

    agreement: how many trials predict `alternative`; confidence: the mean over all trials of their probability of it;
    self_confidence: likewise of the given label; confident: `confidence` is no less than images labelled
    `alternative` have on average, which is what confident learning asks of a likely label error.
    """

    row: int
    label: str
    alternative: str
    agreement: int
    confidence: float
    self_confidence: float
    confident: bool


@dataclass(frozen=True)
class Suspects:
    """The images that several trials get wrong: candidates for label errors, hard ones, and the rest.

    label_suspects: wrong in every trial, most of them agreeing on one other label; hard_images: rows wrong in every
    trial without that; occasional_errors: rows wrong in some trials but not all. by_chance: how many images
    would be wrong in every trial if each erred independently at its own rate; by_chance_by_label: likewise, at its own
    rate for each label, the stricter comparison. With fewer than two trials all of this is empty, or NaN.
    """

    trials: int
    images: int
    label_suspects: tuple[Suspect, ...]
    hard_images: tuple[int, ...]
    occasional_errors: tuple[int, ...]
    by_chance: float
    by_chance_by_label: float

    @property
    def can_tell(self) -> bool:
        """Whether there are at least two trials to compare."""
        return self.trials >= 2

    @property
    def common_errors(self) -> int:
        """How many images are wrong in every trial."""
        return len(self.label_suspects) + len(self.hard_images)


def find_suspects(
    labels: NDArray[Any],
    predicted: NDArray[Any],
    probabilities: NDArray[Any],
    names: Sequence[str],
    agree: float = 0.75,
) -> Suspects:
    """Images that every one of several trials gets wrong, apart by whether the trials agree.

    `predicted` has shape (trials, n), `probabilities` (trials, n, len(names)): those of trials that are about
    equally good, on images that none was trained on. An image is suspected where at least the share `agree`
    of the trials, above 0.5, say one and the same other label; sorted by agreement, then by mean confidence
    in it. Suspected is not wrong: only a look at the image can say. The measure of confidence, and calling
    these candidates, follow C. G. Northcutt, L. Jiang & I. L. Chuang, "Confident learning: estimating
    uncertainty in dataset labels", JAIR 70 (2021), 1373-1411, which takes a label for likely wrong where
    another has at least the probability that images carrying that other label have on average.
    """
    _check_arrays(labels, predicted, probabilities, names)
    if not 0.5 < agree <= 1:
        raise ValueError(f"agree must lie above 0.5 and not above 1, but is {agree}")
    trials, images = predicted.shape
    if trials < 2:
        return Suspects(trials, images, (), (), (), float("nan"), float("nan"))
    wrong = predicted != labels
    common_errors = np.flatnonzero(wrong.all(axis=0))
    votes = (predicted[:, common_errors, None] == np.arange(len(names))).sum(axis=0)
    has_agreement = votes.max(axis=1, initial=0) >= agree * trials
    rates = [wrong[:, labels == label].mean(axis=1) for label in np.unique(labels)]
    return Suspects(
        trials=trials,
        images=images,
        label_suspects=_rank_suspects(
            labels, probabilities.mean(axis=0), names, common_errors[has_agreement], votes[has_agreement]
        ),
        hard_images=tuple(common_errors[~has_agreement].tolist()),
        occasional_errors=tuple(np.flatnonzero(wrong.any(axis=0) & ~wrong.all(axis=0)).tolist()),
        by_chance=float(images * wrong.mean(axis=1).prod()),
        by_chance_by_label=float(
            sum(count * rate.prod() for count, rate in zip(np.unique_counts(labels).counts, rates, strict=True))
        ),
    )


def _rank_suspects(
    labels: NDArray[Any],
    mean: NDArray[Any],
    names: Sequence[str],
    rows: NDArray[np.int64],
    votes: NDArray[np.int64],
) -> tuple[Suspect, ...]:
    """The images at `rows` with their votes for each label, sorted; `mean` is over the trials, (n, labels)."""
    # A label that no image carries has no usual confidence, so none can be said to reach it.
    usual_confidence = [
        mean[labels == label, label].mean() if (labels == label).any() else np.inf for label in range(len(names))
    ]
    suspects = [
        Suspect(
            row=row,
            label=names[labels[row]],
            alternative=names[alternative],
            agreement=int(vote[alternative]),
            confidence=float(mean[row, alternative]),
            self_confidence=float(mean[row, labels[row]]),
            confident=bool(mean[row, alternative] >= usual_confidence[alternative]),
        )
        for row, vote in zip(rows.tolist(), votes, strict=True)
        for alternative in [int(vote.argmax())]
    ]
    return tuple(sorted(suspects, key=lambda suspect: (-suspect.agreement, -suspect.confidence)))


def _check_arrays(
    labels: NDArray[Any], predicted: NDArray[Any], probabilities: NDArray[Any], names: Sequence[str]
) -> None:
    if predicted.ndim != 2 or labels.shape != predicted.shape[1:] or labels.size == 0:
        raise ValueError(
            f"labels must have shape (n,) with n >= 1 and predicted (trials, n), but they have "
            f"{labels.shape} and {predicted.shape}"
        )
    if probabilities.shape != (*predicted.shape, len(names)):
        expected = (*predicted.shape, len(names))
        raise ValueError(f"probabilities must have shape {expected}, but have {probabilities.shape}")
    check_range(labels, "labels", len(names))
    check_range(predicted, "predicted", len(names))
    check_sums(probabilities)
