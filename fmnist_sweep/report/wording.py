"""What was found, in sentences of plain text; every figure in them is computed."""

from __future__ import annotations

from fmnist_sweep.analysis.findings import LEAST_FREEDOM, Configuration, Findings
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.settings import as_text
from fmnist_sweep.text import duration

_TIED = "cannot be told apart from"


def answer(findings: Findings) -> tuple[str, str, str]:
    """The first sentence in three parts, so that the middle one, the best trial's name, can be set in bold."""
    best = findings.best
    if best is None:
        return f"No trial finished: {_counts(findings)}.", "", ""
    return f"Best of {_counts(findings)}: ", best.name, f", validation accuracy {accuracy(findings, 0)}."


def settings_of_best(findings: Findings) -> str:
    """What set the best apart, where its name does not say so."""
    best = findings.best
    if best is None:
        return ""
    told = [(setting.key, as_text(setting.values[0])) for setting in findings.distinct if setting.values[0] is not None]
    if 2 * sum(text in best.name for _, text in told) >= len(told):
        return ""
    return " · ".join(f"{key} {text}" for key, text in told)


def accuracy(findings: Findings, place: int) -> str:
    """A trial's accuracy with its interval where the number of images is known."""
    trial, row = findings.trials[place], findings.rows[place]
    if trial.accuracy is None:
        return "–"
    if row.low is None or row.high is None:
        return f"{trial.accuracy:.4f}"
    images = f", {findings.images:,} images" if place == 0 and findings.images else ""
    return f"{trial.accuracy:.4f} [{row.low:.4f}, {row.high:.4f}] (95% Wilson interval{images})"


def more(findings: Findings, searched: str) -> list[str]:
    """How the best was found, what that cost, and how far it can be believed."""
    cost = f"Training took {duration(findings.cpu_seconds)} of processor time{_unmeasured(findings)}."
    said = [text for text in (searched.strip(), cost) if text]
    if findings.best is not None:
        said += [text for text in (_luck(findings), _seeds(findings), ties(findings)) if text]
    return said


def _unmeasured(findings: Findings) -> str:
    count = findings.unmeasured
    return f", without the {count} trial{'' if count == 1 else 's'} that did not finish" if count else ""


def _luck(findings: Findings) -> str:
    found = findings.optimism
    if found is None:
        return ""
    text = f"It was picked for being the highest: expect about {found.expected:.4f} on new images"
    if findings.retrained is not None and _of_best(findings) is None:
        text += f", and about {findings.retrained:.4f} on these if it is trained again with another seed"
    return f"{text}."


def _seeds(findings: Findings) -> str:
    own = _of_best(findings)
    return "" if own is None else f"Over its seeds this configuration reached {own.repeats.text()}."


def _of_best(findings: Findings) -> Configuration | None:
    return next((found for found in findings.repeated if 0 in found.places), None)


def ties(findings: Findings) -> str:
    """How many others may be just as good."""
    compared = sum(row.tied is not None for row in findings.rows) - 1
    if not findings.comparable:
        return "Its predictions cannot be read from the store, so that nothing can be said of which others are as good."
    if compared < 1:
        return ""
    count = len(findings.tied)
    others = "1 other trial" if count == 1 else f"{count:,} other trials"
    said = f"{others} {_TIED} it" if count else f"Each of the {compared:,} others compared with it is worse"
    left = sum(row.tied is None and row.rank is not None for row in findings.rows) - findings.elsewhere
    return f"{said}; {left:,} were not compared." if left else f"{said}."


def elsewhere(findings: Findings) -> str:
    """A warning where trials were judged on several sets of images."""
    if not findings.elsewhere or not findings.comparable:
        return ""
    some = "1 trial was" if findings.elsewhere == 1 else f"{findings.elsewhere} trials were"
    return (
        f"{some} judged on other validation images than the best, or left no predictions: such an accuracy stands "
        "beside the others' with caution, and only trials with the same validation images are compared image by image."
    )


def how_ties_were_told(findings: Findings) -> str:
    """The method behind the mark of a tie."""
    if findings.seed_freedom:
        spread = f"{findings.seed_sd:.4f}, measured here on repeated seeds ({findings.seed_freedom} degrees of freedom)"
    else:
        spread = (
            f"{findings.seed_sd:.4f}, assumed, as fewer than {LEAST_FREEDOM} repetitions with another seed are here"
        )
    return (
        "Trials are compared on the same images: only those on which two disagree count (McNemar's exact test and the "
        "interval of Bonett and Price, both at 95% for all pairs of trials together). Another seed would have given "
        f"another accuracy too, with a standard deviation of {spread}."
    )


def seeds_of_all(findings: Findings) -> str:
    """What the repeated seeds say together."""
    count = len(findings.repeated)
    return f"{count} configuration{' was' if count == 1 else 's were'} trained with several seeds."


def importance(findings: Findings) -> str:
    """How far the ranking of settings can be believed."""
    found = findings.importance
    if found.why_not is not None:
        return found.why_not
    return (
        f"Random forests fitted to {found.trials} trials explain {found.explained or 0:.0%} of the variance of the "
        "accuracy of trials they have not seen (out-of-bag R²). A point is how much of it hangs on a setting, "
        f"alone or together with others; a bar holds the middle 90% of {found.refits} refits, each on other trials. "
        "A bar that reaches 0 is no evidence."
    )


def confused(mistakes: Mistakes) -> list[tuple[str, str]]:
    """Accuracies seen in other ways: what, and how much."""
    block = mistakes.block
    wrong = block.mistakes_inside
    inside = f"{wrong.value:.1%} of {wrong.n:,}" if wrong.n else "no mistakes at all"
    facts = [
        ("all images", f"{mistakes.accuracy} of {mistakes.accuracy.n:,}"),
        ("upper body", f"{block.accuracy} of {block.images:,} ({', '.join(block.labels)})"),
        ("all other labels", f"{block.outside} of {block.outside.n:,}"),
        ("mistakes inside the upper body", inside),
        ("Shirt and T-shirt/top as one label", f"{mistakes.merged} of {mistakes.merged.n:,}"),
    ]
    if mistakes.without_twins is not None:
        facts.append(
            ("without near twins", "the same: no validation image is nearly one of the training images")
            if not mistakes.twins
            else (
                f"without near twin{'' if mistakes.twins == 1 else 's'} of training images ({mistakes.twins})",
                f"{mistakes.without_twins} of {mistakes.without_twins.n:,}",
            )
        )
    return facts


def provenance(findings: Findings) -> str:
    """What the images were, by their hash, how precisely was computed, and by which code."""
    parts = []
    for tag, what in (("fmnist.data", "Data"), ("fmnist.precision", "precision"), ("fmnist.git", "code")):
        seen = sorted({trial.tags[tag] for trial in findings.trials if tag in trial.tags})
        if seen:
            parts.append(f"{what} {', '.join(seen[:4])}{' and more' if len(seen) > 4 else ''}")
    return "; ".join(parts)


def _counts(findings: Findings) -> str:
    total = len(findings.trials)
    states = [
        f"{findings.states[state]} {state}"
        for state in ("finished", "failed", "killed", "running")
        if findings.states[state]
    ]
    words = f"{total:,} trial{'' if total == 1 else 's'}"
    return words if len(states) < 2 else f"{words} ({', '.join(states)})"
