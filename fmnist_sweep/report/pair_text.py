"""Two trials side by side, as tables and sentences for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.analysis.comparison import SEED_SD, Difference
from fmnist_sweep.analysis.pair import Example, LabelComparison, Side, TrialComparison, Verdicts
from fmnist_sweep.analysis.settings import format_value
from fmnist_sweep.text import format_estimate, format_mean
from fmnist_sweep.tracking.names import DATA_TAG, PRECISION_TAG
from fmnist_sweep.tracking.trials import StoredTrial

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_MAX_EPOCH_ROWS = 12  # rows of the table of curves
_BLOCKS = "▁▂▃▄▅▆▇█"
_MAX_EXAMPLES = 4  # examples of a kind


def render_pair(pair: TrialComparison) -> Iterator[RenderableType]:
    """Render the parts of a comparison, each under a heading."""
    yield from _render_scores(pair)
    yield from _render_settings(pair)
    yield from _render_verdicts(pair)
    yield from _render_curves(pair)
    yield from _render_labels(pair.labels)
    yield from _render_images(pair)


def _render_scores(pair: TrialComparison) -> Iterator[RenderableType]:
    table = _make_table("", "A", "B")
    sides = (pair.a, pair.b)
    table.add_row("run", *(side.trial.run_id for side in sides))
    table.add_row("trial", *(f"{side.trial.study_id}/{side.trial.trial_id}" for side in sides))
    table.add_row("name", *(side.trial.name for side in sides))
    table.add_row("validation accuracy", *map(format_side_accuracy, sides))
    if any(side.seeds is not None and side.seeds.n > 1 for side in sides):
        table.add_row("over its seeds", *(_format_seeds(side) for side in sides))
    table.add_row("best epoch", *map(_format_best_epoch, sides))
    table.add_row("training − validation there", *("–" if side.gap is None else f"{side.gap:+.4f}" for side in sides))
    table.add_row("parameters", *(_format_metric(side.trial, "parameters") for side in sides))
    table.add_row("processor time of the fit", *(_format_fit_time(side.trial) for side in sides))
    for name, tag in (("data", DATA_TAG), ("precision", PRECISION_TAG)):
        values = [side.trial.tags.get(tag, "–") for side in sides]
        if values[0] != values[1]:
            table.add_row(name, *values)
    yield table


def format_side_accuracy(side: Side) -> str:
    """A trial's accuracy with its interval, or how the trial ended."""
    trial = side.trial
    if trial.accuracy is None:
        return f"{trial.state}{f': {trial.failure}' if trial.failure else ''}"
    has_interval = not math.isnan(side.low)
    return format_estimate(trial.accuracy, *((side.low, side.high) if has_interval else (None, None)))


def _format_seeds(side: Side) -> str:
    return "–" if side.seeds is None else format_mean(side.seeds.mean, side.seeds.sd, side.seeds.n)


def _format_best_epoch(side: Side) -> str:
    return "–" if side.best_epoch is None else f"{side.best_epoch} of {len(side.curve)}"


def _format_metric(trial: StoredTrial, key: str) -> str:
    value = trial.metrics.get(key)
    return "–" if value is None else f"{value:,.0f}"


def _format_fit_time(trial: StoredTrial) -> str:
    if "cpu_seconds" in trial.metrics:
        return f"{trial.metrics['cpu_seconds']:,.1f} s"
    if "fit_seconds" in trial.metrics:
        return f"not measured (wall clock {trial.metrics['fit_seconds']:,.1f} s)"
    return "–"


def _render_settings(pair: TrialComparison) -> Iterator[RenderableType]:
    yield "\nWhat differs"
    if not pair.settings:
        yield "  nothing: the same parameters"
        return
    table = _make_table("setting", "A", "B")
    for setting in pair.settings:
        table.add_row(setting.key, format_value(setting.a), format_value(setting.b))
    yield table


def _render_verdicts(pair: TrialComparison) -> Iterator[RenderableType]:
    yield "\nIs the difference real?"
    if pair.verdicts is None:
        yield f"  They cannot be compared image by image: {pair.no_comparison_reason}."
        return
    verdicts = pair.verdicts
    yield f"  These two models: {_format_difference(verdicts.models)}"
    models = verdicts.models
    yield f"    only A is right on {models.only_a:,}, only B on {models.only_b:,} of the same {models.images:,} images"
    if pair.same_configuration:
        is_reseeded = any(setting.key == "seed" for setting in pair.settings)
        reason = "another seed; what differs is luck" if is_reseeded else "the same seed"
        yield f"  Their configurations: the same, with {reason}."
    else:
        yield f"  Their configurations, one seed each: {_format_difference(verdicts.configurations)}"
    yield f"    {_describe_seed_sd(verdicts)}"
    if verdicts.seeds is not None:
        yield f"  Their configurations over all seeds: {_format_difference(verdicts.seeds)}"
        yield "    the luck of seeds and of images taken together (crossed random effects)"


def _format_difference(difference: Difference) -> str:
    words = {"better": "A is better", "worse": "B is better", "cannot tell": "they cannot be told apart"}
    return f"{words[difference.verdict]}: A − B = {_format_gain(difference)}, {_format_p_value(difference.p)}"


def _format_gain(difference: Difference) -> str:
    return format_estimate(difference.value, difference.low, difference.high, signed=True)


def _format_p_value(p: float) -> str:
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def _describe_seed_sd(verdicts: Verdicts) -> str:
    if verdicts.seed_spread.freedom:
        return (
            f"sd over training seeds {verdicts.seed_spread.sd:.4f}, measured on their repeated seeds in this store "
            f"({verdicts.seed_spread.freedom} degrees of freedom)"
        )
    return f"sd over training seeds {SEED_SD}, assumed: too few repeated seeds of these configurations in this store"


def _render_curves(pair: TrialComparison) -> Iterator[RenderableType]:
    curves = pair.a.curve, pair.b.curve
    if not any(curves):
        return
    yield "\nCurves, on the validation images"
    for key, words in (("val_accuracy", "accuracy"), ("val_loss", "loss")):
        values = [[row[key] for row in curve] for curve in curves]
        has_own_scales = key == "val_loss" and _has_different_losses(pair)
        lines = (
            [*draw_sparklines(values[:1]), *draw_sparklines(values[1:])] if has_own_scales else draw_sparklines(values)
        )
        for name, line in zip("AB", lines, strict=True):
            yield f"  {words:8} {name}  {line}"
    table = _make_table("epoch", "accuracy A", "accuracy B", "loss A", "loss B", numbers=True)
    best = pair.a.best_epoch, pair.b.best_epoch
    for epoch in _select_epochs(max(map(len, curves)), best):
        cells = [
            _format_curve_cell(curve, epoch, key, epoch == mark)
            for key in ("val_accuracy", "val_loss")
            for curve, mark in zip(curves, best, strict=True)
        ]
        table.add_row(str(epoch), *cells)
    yield table
    yield "  * best epoch, whose weights were kept"
    if _has_different_losses(pair):
        yield "  The losses are two functions (train.loss) and cannot be compared."


def _has_different_losses(pair: TrialComparison) -> bool:
    return any(setting.key == "train.loss" for setting in pair.settings)


def draw_sparklines(series: Sequence[Sequence[float]]) -> list[str]:
    """Draw series as lines of characters, one a value, all on one scale; a gap for NaN and infinity."""
    finite = [value for values in series for value in values if abs(value) < float("inf")]
    low, high = min(finite, default=0.0), max(finite, default=0.0)

    def block(value: float) -> str:
        if not abs(value) < float("inf"):
            return " "
        share = 1.0 if high == low else (value - low) / (high - low)
        return _BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))]

    return ["".join(map(block, values)) for values in series]


def _select_epochs(last: int, best: Sequence[int | None]) -> list[int]:
    """Select the epochs of the table: all, or evenly spaced ones with the best and the last."""
    if last <= _MAX_EPOCH_ROWS:
        return list(range(1, last + 1))
    step = -(-last // (_MAX_EPOCH_ROWS - 3))
    return sorted({*range(1, last + 1, step), last, *(epoch for epoch in best if epoch)})


def _format_curve_cell(curve: Sequence[dict[str, float]], epoch: int, key: str, is_best: bool) -> str:
    return f"{curve[epoch - 1][key]:.4f}{'*' if is_best else ' '}" if epoch <= len(curve) else ""


def _render_labels(labels: Sequence[LabelComparison]) -> Iterator[RenderableType]:
    if not labels:
        return
    yield "\nLabel by label"
    heads = ("label", "images", "recall A", "recall B", "A − B [95% for all ten]", "", "F1 A", "F1 B")
    table = _make_table(*heads, numbers=True)
    for label in labels:
        difference = label.difference
        interval = "–" if difference is None else _format_gain(difference)
        verdict = "" if difference is None else {"better": "A", "worse": "B"}.get(difference.verdict, "")
        scores = (f"{label.a.recall:.4f}", f"{label.b.recall:.4f}", interval, verdict)
        table.add_row(label.a.label, f"{label.a.support:,}", *scores, f"{label.a.f1:.4f}", f"{label.b.f1:.4f}")
    yield table
    yield "  A or B beside an interval: better there, also after correction for ten labels"


def _render_images(pair: TrialComparison) -> Iterator[RenderableType]:
    images = pair.disagreement
    if images is None:
        return
    yield "\nOn which images"
    total = images.both_right + images.only_a + images.only_b + images.both_wrong
    yield (
        f"  of {total:,}: both right {images.both_right:,}, only A {images.only_a:,}, only B {images.only_b:,}, "
        f"both wrong {images.both_wrong:,}"
    )
    table = _make_table("", "image", "label", "A says", "B says")
    for words, examples in (
        ("only A is right", images.only_a_examples),
        ("only B is right", images.only_b_examples),
        ("both are wrong", images.both_wrong_examples),
    ):
        for place, example in enumerate(examples[:_MAX_EXAMPLES]):
            table.add_row(words if place == 0 else "", *_format_example(example))
    yield table
    yield "  image: its place in the data's training file, from 0; the most confident mistakes first"


def _format_example(example: Example) -> tuple[str, str, str, str]:
    return (
        str(example.position),
        example.label,
        f"{example.a} {example.a_confidence:.0%}",
        f"{example.b} {example.b_confidence:.0%}",
    )


def _make_table(*heads: str, numbers: bool = False) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if numbers and place else "left")
    return table
