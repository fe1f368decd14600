"""Tables of trials as the bytes of a file: CSV, JSON, Parquet."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from fmnist_sweep.analysis.table import format_cell_as_text, is_missing

if TYPE_CHECKING:
    import pandas as pd

TABLE_ENDINGS = (".csv", ".json", ".parquet")  # of the files that can be written
# As full-width characters too, and after spaces, which a spreadsheet may skip.
_FORMULA = re.compile(r"\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def encode_table(frame: pd.DataFrame, ending: str) -> bytes:
    """The content of a file with one of TABLE_ENDINGS; .json: a list of rows.

    Lists, and settings of several types, are JSON text in .csv and .parquet.
    """
    if ending == ".json":
        return encode_json_rows(frame).encode()
    converted = frame.copy()
    for name in frame.columns:
        if _is_mixed(frame[name]):
            converted[name] = [_convert_cell(cell) for cell in frame[name]]
    if ending == ".csv":
        return encode_csv(converted)
    buffer = io.BytesIO()
    converted.to_parquet(buffer, index=False)
    return buffer.getvalue()


def encode_csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV, in which no text begins as a formula of a spreadsheet does: such a one gets an apostrophe.

    Numbers stay as they are. Source: OWASP, "CSV Injection".
    """
    harmless = frame.rename(columns=_disarm_cell)
    for place, name in enumerate(frame.columns):
        if any(isinstance(cell, str) for cell in frame[name]):
            harmless[harmless.columns[place]] = [_disarm_cell(cell) for cell in frame[name]]
    texts = [*harmless.columns, *(cell for name in harmless for cell in harmless[name] if isinstance(cell, str))]
    # Python quotes no carriage return by itself, and a spreadsheet begins a row after one.
    has_return = any("\r" in text for text in texts)
    return harmless.to_csv(index=False, quoting=2 if has_return else 0).encode()  # csv.QUOTE_NONNUMERIC, QUOTE_MINIMAL


def _disarm_cell(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def encode_json_rows(frame: pd.DataFrame) -> str:
    """The rows as a JSON list; times in ISO 8601, missing values null."""
    return frame.to_json(orient="records", date_format="iso", double_precision=15, indent=1)


def _is_mixed(series: pd.Series[Any]) -> bool:
    return series.dtype == object and not all(cell is None or isinstance(cell, str) for cell in series)


def _convert_cell(cell: Any) -> str | None:
    return None if is_missing(cell) else format_cell_as_text(cell)
