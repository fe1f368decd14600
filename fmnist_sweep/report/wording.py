"""The findings in sentences of plain text."""

from __future__ import annotations

from collections.abc import Sequence

from fmnist_sweep.analysis.comparison import LEAST_FREEDOM
from fmnist_sweep.analysis.confidence import Calibration
from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.labelling import Suspects
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.peers import GOOD_WITHIN, MOST_READ
from fmnist_sweep.analysis.ranking import RepeatedConfiguration
from fmnist_sweep.analysis.settings import VariedSetting, format_value
from fmnist_sweep.report.best import TIED_LABEL, describe_ties
from fmnist_sweep.text import format_duration, format_estimate, format_mean
from fmnist_sweep.tracking.names import DATA_TAG, GIT_TAG, PRECISION_TAG


def describe_best(findings: Findings) -> tuple[str, str, str]:
    """Name the best trial, in three parts: the middle one, its name, can be set in bold."""
    best = findings.best
    if best is None:
        return f"No trial finished: {_format_counts(findings)}.", "", ""
    return (
        f"Best of {_format_counts(findings)}: ",
        best.name,
        f", validation accuracy {format_trial_accuracy(findings, 0)}.",
    )


def describe_best_settings(findings: Findings) -> str:
    """List the settings of the best trial; empty where its name has them."""
    best = findings.best
    if best is None:
        return ""
    settings = [
        (setting.key, format_value(setting.values[0]))
        for setting in findings.distinct_settings
        if setting.values[0] is not None
    ]
    if 2 * sum(text in best.name for _, text in settings) >= len(settings):
        return ""
    return " · ".join(f"{key} {text}" for key, text in settings)


def format_trial_accuracy(findings: Findings, place: int) -> str:
    """A trial's accuracy with its interval where the number of images is known."""
    trial, row = findings.trials[place], findings.rows[place]
    if trial.accuracy is None:
        return "–"
    text = format_estimate(trial.accuracy, row.low, row.high)
    if row.low is None:
        return text
    images = f", {findings.images:,} images" if place == 0 and findings.images else ""
    return f"{text} (95% Wilson interval{images})"


def describe_search(findings: Findings, search_summary: str) -> list[str]:
    """Say how the best was found, what that cost, and how reliable its accuracy is."""
    cost = f"Training took {format_duration(findings.cpu_seconds)} of processor time{_describe_unmeasured(findings)}."
    sentences = [text for text in (search_summary.strip(), cost) if text]
    if findings.best is not None:
        sentences += [
            text
            for text in (_describe_optimism(findings), _describe_seeds(findings), describe_tied_trials(findings))
            if text
        ]
    return sentences


def _describe_unmeasured(findings: Findings) -> str:
    count = findings.unmeasured_trials
    return f", without the {count} trial{'' if count == 1 else 's'} that did not finish" if count else ""


def _describe_optimism(findings: Findings) -> str:
    optimism = findings.optimism
    if optimism is None:
        return ""
    text = f"It was picked for being the highest: expect about {optimism.expected:.4f} on new images"
    if findings.retrained_accuracy is not None and _find_best_configuration(findings) is None:
        text += f", and about {findings.retrained_accuracy:.4f} on these if it is trained again with another seed"
    return f"{text}."


def _describe_seeds(findings: Findings) -> str:
    configuration = _find_best_configuration(findings)
    if configuration is None:
        return ""
    repeats = configuration.repeats
    return f"Over its seeds this configuration reached {format_mean(repeats.mean, repeats.sd, repeats.n)}."


def _find_best_configuration(findings: Findings) -> RepeatedConfiguration | None:
    return next(
        (configuration for configuration in findings.repeated_configurations if 0 in configuration.places), None
    )


def describe_tied_trials(findings: Findings) -> str:
    """Say how many other trials may be just as good as the best."""
    if not findings.is_comparable:
        return "Its predictions cannot be read from the store, so that nothing can be said of which others are as good."
    tied = len(findings.tied_places)
    compared = sum(row.tied is not None for row in findings.rows) - 1  # the best has a mark of its own
    uncompared = sum(row.tied is None and row.rank is not None for row in findings.rows)
    return describe_ties(tied, compared - tied, uncompared)


def describe_unknown_costs(findings: Findings) -> str:
    """Say which costs some finished trials on the best's images do not have; empty where all have them."""
    data = findings.trials[0].data
    total = sum(trial.accuracy is not None and trial.data == data for trial in findings.trials)
    missing = [f"{front.measure.key} of {total - len(front.costs)}" for front in findings.fronts]
    named = [text for text, front in zip(missing, findings.fronts, strict=True) if len(front.costs) < total]
    return f"Not measured by the version that trained them: {', '.join(named)} of {total} trials." if named else ""


def describe_other_images(findings: Findings) -> str:
    """Warn where trials were judged on different validation images; empty where they were not."""
    if not findings.incomparable_trials or not findings.is_comparable:
        return ""
    subject = "1 trial was" if findings.incomparable_trials == 1 else f"{findings.incomparable_trials} trials were"
    return (
        f"{subject} judged on other validation images than the best, or left no predictions: such an accuracy stands "
        "beside the others' with caution, and only trials with the same validation images are compared image by image."
    )


def describe_tie_method(findings: Findings) -> str:
    """Describe the method behind the mark of a tie."""
    spread = findings.seed_spread
    if spread.freedom:
        sd_text = f"{spread.sd:.4f}, measured here on repeated seeds ({spread.freedom} degrees of freedom)"
    else:
        sd_text = f"{spread.sd:.4f}, assumed, as fewer than {LEAST_FREEDOM} repetitions with another seed are here"
        if findings.best is not None and not findings.best.description.is_fashion_mnist:
            sd_text += f" (measured on Fashion-MNIST, not on {findings.best.description.name})"
    return (
        "Trials are compared on the same images: only those on which two disagree count (McNemar's exact test and the "
        "interval of Bonett and Price, both at 95% for all pairs of trials together). Another seed would have given "
        f"another accuracy too, with a standard deviation of {sd_text}."
    )


def describe_repeats(findings: Findings) -> str:
    """Say how many configurations were trained with several seeds."""
    count = len(findings.repeated_configurations)
    return f"{count} configuration{' was' if count == 1 else 's were'} trained with several seeds."


def describe_importance(findings: Findings) -> str:
    """Describe how the ranking of settings was made and how reliable it is."""
    importances = findings.importance
    if importances.no_ranking_reason is not None:
        return importances.no_ranking_reason
    return (
        f"Random forests fitted to {importances.trials} trials explain {importances.r_squared or 0:.0%} of the "
        "variance of the accuracy of trials they have not seen (out-of-bag R²). A point is how much of it hangs on a "
        f"setting, alone or together with others; a bar holds the middle 90% of {importances.refits} refits, each on "
        "other trials. A bar that reaches 0 is no evidence."
    )


def list_accuracies(mistakes: Mistakes) -> list[tuple[str, str]]:
    """List accuracies over other groups of images or labels, as (name, value)."""
    facts = [("all images", f"{mistakes.accuracy} of {mistakes.accuracy.n:,}")]
    block = mistakes.similar_labels
    if block is not None:
        wrong = block.mistakes_inside
        inside = f"{wrong.value:.1%} of {wrong.n:,}" if wrong.n else "no mistakes at all"
        facts += [
            (block.name, f"{block.accuracy} of {block.images:,} ({', '.join(block.labels)})"),
            ("all other labels", f"{block.outside_accuracy} of {block.outside_accuracy.n:,}"),
            (f"mistakes inside the {block.name}", inside),
        ]
    merged = mistakes.merged_accuracy
    if merged is not None:
        facts.append((f"{' and '.join(reversed(mistakes.merged_labels))} as one label", f"{merged} of {merged.n:,}"))
    if mistakes.accuracy_without_twins is not None:
        facts.append(
            ("without near twins", "the same: no validation image is nearly one of the training images")
            if not mistakes.twins
            else (
                f"without near twin{'' if mistakes.twins == 1 else 's'} of training images ({mistakes.twins})",
                f"{mistakes.accuracy_without_twins} of {mistakes.accuracy_without_twins.n:,}",
            )
        )
    return facts


def describe_provenance(findings: Findings) -> str:
    """Name the data by its hash, the precision of the computation, and the commit of the code."""
    parts = []
    for tag, name in ((DATA_TAG, "Data"), (PRECISION_TAG, "precision"), (GIT_TAG, "code")):
        values = sorted({trial.tags[tag] for trial in findings.trials if tag in trial.tags})
        if values:
            parts.append(f"{name} {', '.join(values[:4])}{' and more' if len(values) > 4 else ''}")
    return "; ".join(parts)


def _format_counts(findings: Findings) -> str:
    total = len(findings.trials)
    states = [
        f"{findings.states[state]} {state}"
        for state in ("finished", "failed", "killed", "running")
        if findings.states[state]
    ]
    words = f"{total:,} trial{'' if total == 1 else 's'}"
    return words if len(states) < 2 else f"{words} ({', '.join(states)})"


def describe_tie_marks(findings: Findings, row_count: int) -> str:
    """Explain the marks in the first rows of the leaderboard; empty where no trial finished."""
    if findings.best is None:
        return ""
    unknown = sum(row.tied is None and row.rank is not None for row in findings.rows[:row_count])
    uncompared = " ? not compared image by image." if unknown and findings.is_comparable else ""
    return f"{TIED_LABEL}.{uncompared}"


def describe_omitted_columns(findings: Findings, columns: Sequence[VariedSetting]) -> str:
    """Name the settings that varied without a column of their own; empty where all have one."""
    if len(columns) == len(findings.varied_settings):
        return ""
    groups = [f"{', '.join(setting.same_as)} with {setting.key}" for setting in columns if setting.same_as]
    text = f"Changed together: {'; '.join(groups)}." if groups else ""
    column_keys = {column.key for column in columns}
    omitted_keys = [setting.key for setting in findings.distinct_settings if setting.key not in column_keys]
    return f"{text} Without a column: {', '.join(omitted_keys)}." if omitted_keys else text


def describe_confounding(findings: Findings) -> str:
    """Name the settings that changed only together; empty where none did."""
    groups = [
        f"{item.key} stands for {', '.join(item.same_as)} too" for item in findings.importance.settings if item.same_as
    ]
    return f"Changed only together, so that nothing can tell them apart: {'; '.join(groups)}." if groups else ""


def describe_confused_pairs(mistakes: Mistakes) -> str:
    """List the most confused pairs of labels with their counts."""
    counts = [f"{pair.true} taken for {pair.predicted}: {pair.count} ({pair.share:.1%})" for pair in mistakes.pairs]
    return f"{'; '.join(counts)}." if counts else "No mistakes."


def describe_suspects(suspects: Suspects) -> str:
    """Say how many images all good trials get wrong, and what may be the matter with their labels."""
    if not suspects.can_tell:
        return f"Nothing can be told of the labels: that takes two trials or more, and there is {suspects.trials}."
    confident_count = sum(suspect.confident for suspect in suspects.label_suspects)
    return (
        f"Of {suspects.images:,} images, {suspects.common_errors:,} are wrong in all {suspects.trials} trials, where "
        f"{suspects.by_chance_by_label:,.1f} would be if the trials erred independently at their rates for each "
        f"label. On {len(suspects.label_suspects):,} of them the trials agree on another label, on "
        f"{confident_count:,} as confidently as on images that carry it: these may be label errors, or images that "
        f"models trained on the same data misread alike. {len(suspects.hard_images):,} are hard, and "
        f"{len(suspects.occasional_errors):,} more are wrong in some trials only."
    )


def describe_good_trials() -> str:
    """Say which trials are compared to find suspected label errors."""
    return f"Good: within {GOOD_WITHIN} of the best or inside its interval, at most {MOST_READ} trials."


def describe_calibration(calibration: Calibration) -> str:
    """Say whether the model's confidence is a calibrated model's, and by how much it differs."""
    sd = calibration.ece_if_calibrated_sd
    excess = (calibration.ece - calibration.ece_if_calibrated) / sd if sd else 0.0
    if excess <= 2:
        verdict = "no more than chance would make of a calibrated model's"
    else:
        verdict = f"too {'sure of itself' if calibration.overconfidence > 0 else 'cautious'}"
    return (
        f"Mean confidence is {calibration.confidence:.4f} where {calibration.accuracy.value:.4f} of the images are "
        f"right: {verdict}. {describe_calibration_error(calibration)} Brier score {calibration.brier:.4f}, negative "
        f"log-likelihood {calibration.nll:.4f}."
    )


def describe_calibration_error(calibration: Calibration) -> str:
    """Say how large the calibration error is, beside what chance makes of a calibrated model's."""
    chance = f"{calibration.ece_if_calibrated:.4f} ± {calibration.ece_if_calibrated_sd:.4f}"
    return (
        f"Expected calibration error {calibration.ece:.4f}, where a perfectly calibrated model would show {chance} on "
        "as many images."
    )
