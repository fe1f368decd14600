"""The summary of the data as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmnist_sweep.data import DataSummary, format_fallback_banner

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_summary(summary: DataSummary) -> RenderableType:
    """Render the summary as tables for a terminal, under a banner where drawn images stand in for Fashion-MNIST."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = [_build_facts_table(summary), _build_labels_table(summary)]
    if summary.origin.is_drawn:
        banner = Text(format_fallback_banner(summary.origin), style="bold")
        parts.insert(0, Panel(banner, border_style="red"))
    return Group(*parts)


def _build_facts_table(summary: DataSummary) -> RenderableType:
    from rich.table import Table

    table = Table(title="Data", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    origin = summary.origin
    for name, value in {
        "source": origin.source,
        **_name_data(summary),
        "from": origin.location,
        "train and validation sha256": summary.sha256,
        "tag": summary.tag,
        "train table": _format_shape(summary.train_table),
        "test table": _format_shape(summary.test_table),
        "missing values": f"{summary.missing} ({summary.missing_note})",
        "pixel values": f"{summary.pixel_range[0]} to {summary.pixel_range[1]}",
        "repeated within the train file": str(summary.train_duplicates),
        "repeated within the test file": str(summary.test_duplicates),
        "test images also in the train file": str(summary.test_in_train),
        "validation images also in the train split": str(summary.validation_in_train),
        "train images removed for that": str(summary.removed_duplicates),
    }.items():
        table.add_row(name, value)
    return table


def _name_data(summary: DataSummary) -> dict[str, str]:
    """Whether the images are Fashion-MNIST's own, or what other images are called and are."""
    description = summary.description
    if description.is_fashion_mnist:
        return {"canonical Fashion-MNIST, by checksum": "yes" if summary.origin.canonical else "no"}
    height, width, channels = description.image_shape
    return {"name": description.name, "images": f"{height}x{width}, {'colour' if channels == 3 else 'grey'}"}


def _format_shape(shape: tuple[int, int]) -> str:
    return f"{shape[0]:,} x {shape[1]} (a label and {shape[1] - 1} pixels)"


def _build_labels_table(summary: DataSummary) -> RenderableType:
    from rich.table import Table

    table = Table(title="Images per label")
    table.add_column("label")
    for name in summary.images:
        table.add_column(name, justify="right")
    for label, name in enumerate(summary.description.labels):
        table.add_row(f"{label} {name}", *(f"{counts[label]:,}" for counts in summary.images.values()))
    table.add_row("all", *(f"{sum(counts):,}" for counts in summary.images.values()))
    return table
