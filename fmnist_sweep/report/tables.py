"""Findings -> the tables of the page, as values: templates/parts.html makes HTML of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fmnist_sweep.analysis.findings import Findings
from fmnist_sweep.analysis.mistakes import Mistakes
from fmnist_sweep.analysis.ranking import RepeatedConfiguration
from fmnist_sweep.analysis.settings import VariedSetting, format_value
from fmnist_sweep.report.drawings import Drawing, draw_dots, draw_interval, make_interval_drawer
from fmnist_sweep.report.figures.canvas import BLUE, VERMILLION
from fmnist_sweep.text import format_duration, format_interval, format_mean

MAX_ROWS = 200
MAX_COLUMNS = 8  # of settings; more would not fit a page
FIRST_ROWS, PAPER_ROWS = 25, 50  # shown before all are asked for, as in report.css
_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Head:
    """The head of a column: a small group above its name, CSS classes, and whether a click sorts by it."""

    name: str
    group: str = ""
    kind: str = ""
    sorts: bool = False

    @property
    def classes(self) -> str:
        return " ".join(word for word in (self.kind, "sorts" if self.sorts else "") if word)


@dataclass(frozen=True)
class Cell:
    """A cell: a text or a drawing, its CSS classes, how many columns it spans, and what to sort by beside its text."""

    text: str = ""
    kind: str = ""
    drawing: Drawing | None = None
    span: int = 1
    sort_value: str | None = None


@dataclass(frozen=True)
class PageRow:
    """A row: its cells, its CSS classes, and a title that a browser shows when it is pointed at."""

    cells: Sequence[Cell]
    kind: str = ""
    title: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table; kind: its CSS classes, name: its id."""

    heads: Sequence[Head]
    rows: Sequence[PageRow]
    kind: str = ""
    name: str = ""


@dataclass(frozen=True)
class CauseRow:
    """Failed trials of one cause: how many, the cause, some examples (name, id of the run), and how many more."""

    count: int
    kind: str
    message: str
    examples: Sequence[tuple[str, str]]
    remaining: int


def build_leaderboard_table(findings: Findings) -> PageTable:
    """Build the table of the first MAX_ROWS trials: varied settings, accuracy with its interval, ties, and cost."""
    columns = select_columns(findings)
    has_names = len(columns) < len(findings.distinct_settings) or not columns
    has_seeds = len({trial.params.get("seed") for trial in findings.trials}) > 1
    heads = [
        Head("rank", kind="number", sorts=True),
        Head("≈", sorts=True),
        Head("accuracy", "validation", "number", sorts=True),
        Head("95% interval"),
        *([Head("trial", sorts=True)] if has_names else []),
        *(_make_setting_head(setting, sorts=True) for setting in columns),
        *([Head("seed", kind="number", sorts=True)] if has_seeds else []),
        Head("epoch", "best", "number", sorts=True),
        Head("parameters", kind="number", sorts=True),
        Head("time", "cpu", "number", sorts=True),
        Head("run"),
    ]
    draw = make_interval_drawer(findings, MAX_ROWS)
    rows = [
        _build_trial_row(findings, place, columns, (has_names, has_seeds), draw)
        for place in range(min(MAX_ROWS, len(findings.trials)))
    ]
    tight = " tight" if len(heads) > 11 else ""
    return PageTable(heads, rows, f"sortable long{tight}", "trials")


def select_columns(findings: Findings) -> list[VariedSetting]:
    """Select the settings that get a column: all, or of too many the first that do not repeat another."""
    return (
        list(findings.varied_settings)
        if len(findings.varied_settings) <= MAX_COLUMNS
        else findings.distinct_settings[:MAX_COLUMNS]
    )


def build_fronts_table(findings: Findings) -> PageTable:
    """Build the table of the trials that are on a front, the best first, with a dot at each cost that they lead in."""
    fronts = findings.fronts
    heads = [
        Head("rank", kind="number"),
        Head("accuracy", "validation", "number"),
        Head("trial"),
        *(Head(front.measure.key, kind="number") for front in fronts),
        Head("run"),
    ]
    rows = []
    for place in sorted({place for front in fronts for place in front.places})[:MAX_ROWS]:
        trial = findings.trials[place]
        costs = [
            Cell(
                f"{front.measure.format_cost(front.costs[place]) if place in front.costs else '–'}"
                f"{' •' if place in front.places else ''}",
                "number",
            )
            for front in fronts
        ]
        cells = [Cell(str(findings.rows[place].rank), "number"), Cell(f"{trial.accuracy:.4f}", "number")]
        rows.append(PageRow([*cells, Cell(trial.name, "text long"), *costs, Cell(trial.run_id[:8], "id")]))
    return PageTable(heads, rows, "narrow")


def build_repeats_table(findings: Findings) -> PageTable:
    """Build the table of configurations trained with several seeds: mean ± sd (n), and each training as a dot."""
    columns = [setting for setting in select_columns(findings) if _count_values(findings, setting) > 1]
    heads = [
        Head("over seeds (n)", "mean ± sd", "number"),
        Head("of the mean", "95% interval", "number"),
        Head("each seed"),
        *([_make_setting_head(setting) for setting in columns] or [Head("trial")]),
    ]
    accuracies = [
        findings.trials[place].accuracy or 0.0
        for configuration in findings.repeated_configurations
        for place in configuration.places
    ]
    rows = [
        _build_repeats_row(findings, configuration, columns, (min(accuracies), max(accuracies)))
        for configuration in findings.repeated_configurations
    ]
    return PageTable(heads, rows, "narrow tight" if len(heads) > 8 else "narrow")


def build_label_table(mistakes: Mistakes) -> PageTable:
    """Build the table of each label's precision, recall and F1: those most alike first, the hardest on top."""
    heads = [
        Head("label"),
        *(Head(name, kind="number") for name in ("images", "precision", "recall")),
        Head("of recall", "95% interval"),
        Head(""),
        Head("F1", kind="number"),
    ]
    similar_labels = () if mistakes.similar_labels is None else mistakes.similar_labels.labels
    ordered = sorted(mistakes.scores, key=lambda score: (score.label not in similar_labels, score.recall))
    low = min(score.recall_low for score in ordered)
    rows = []
    for place, score in enumerate(ordered):
        is_similar = score.label in similar_labels
        is_last_similar = is_similar and (place + 1 == len(ordered) or ordered[place + 1].label not in similar_labels)
        interval = (score.recall_low, score.recall, score.recall_high)
        cells = [
            Cell(score.label),
            Cell(f"{score.support:,}", "number"),
            Cell(f"{score.precision:.3f}", "number"),
            Cell(f"{score.recall:.3f}", "number"),
            Cell(format_interval(score.recall_low, score.recall_high, decimals=3), "number"),
            Cell(drawing=draw_interval(interval, (low, 1.0), VERMILLION if is_similar else BLUE)),
            Cell(f"{score.f1:.3f}", "number"),
        ]
        rows.append(PageRow(cells, "apart" if is_last_similar else ""))
    return PageTable(heads, rows, "narrow")


def list_failure_causes(findings: Findings) -> list[CauseRow]:
    """List failed trials by cause."""
    rows = []
    for cause in findings.failures:
        trials = [findings.trials[place] for place in cause.places[:_MAX_EXAMPLES]]
        examples = [(trial.name, trial.run_id[:8]) for trial in trials]
        rows.append(CauseRow(len(cause.places), cause.kind, cause.message, examples, len(cause.places) - len(trials)))
    return rows


def _build_trial_row(
    findings: Findings,
    place: int,
    columns: Sequence[VariedSetting],
    extra: tuple[bool, bool],
    draw: Callable[[int], Drawing | None],
) -> PageRow:
    trial, row = findings.trials[place], findings.rows[place]
    has_names, has_seeds = extra
    cells = [Cell("" if row.rank is None else str(row.rank), "number"), Cell(_format_tie_mark(findings, place), "tie")]
    if trial.accuracy is None:
        cells.append(Cell(trial.state, "cause", span=2))
    else:
        cells += [Cell(f"{trial.accuracy:.4f}", "number"), Cell(drawing=draw(place))]
    cells += [Cell(trial.name, "text long")] if has_names else []
    cells += [_make_value_cell(setting, setting.values[place]) for setting in columns]
    cells += [Cell(format_value(trial.parse_value("seed")), "number")] if has_seeds else []
    cells += [
        Cell(_format_count(trial.metrics.get("best_epoch")), "number"),
        Cell(_format_count(trial.metrics.get("parameters")), "number"),
        Cell(format_duration(trial.cpu_seconds), "number", sort_value=f"{trial.cpu_seconds:.1f}"),
        Cell(trial.run_id[:8], "id"),
    ]
    kind = "best" if place == 0 and row.rank else "" if trial.accuracy is not None else trial.state
    return PageRow(cells, kind, title=": ".join(filter(None, (trial.name, trial.failure))))


def _format_tie_mark(findings: Findings, place: int) -> str:
    tied = findings.rows[place].tied
    return "≈" if tied and place > 0 else "?" if tied is None and findings.trials[place].accuracy is not None else ""


def _format_count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _make_setting_head(setting: VariedSetting, sorts: bool = False) -> Head:
    group, _, name = setting.key.rpartition(".")
    return Head(name, group, "number" if setting.numeric else "", sorts)


def _make_value_cell(setting: VariedSetting, value: object) -> Cell:
    return Cell(format_value(value), "number" if setting.numeric else "text")


def _build_repeats_row(
    findings: Findings,
    configuration: RepeatedConfiguration,
    columns: Sequence[VariedSetting],
    scale: tuple[float, float],
) -> PageRow:
    first, statistics = configuration.places[0], configuration.repeats
    accuracies = [findings.trials[place].accuracy or 0.0 for place in configuration.places]
    cells = [
        Cell(format_mean(statistics.mean, statistics.sd, statistics.n), "number"),
        Cell(format_interval(statistics.low, statistics.high), "number"),
        Cell(drawing=draw_dots(accuracies, statistics.mean, scale)),
    ]
    settings = [_make_value_cell(setting, setting.values[first]) for setting in columns]
    cells += settings or [Cell(findings.trials[first].name, "text long")]
    return PageRow(cells, "best" if 0 in configuration.places else "")


def _count_values(findings: Findings, setting: VariedSetting) -> int:
    """Count the values of a setting among the repeated configurations."""
    return len({format_value(setting.values[each.places[0]]) for each in findings.repeated_configurations})
