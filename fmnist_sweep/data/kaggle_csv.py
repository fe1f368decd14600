"""Fashion-MNIST as Kaggle's CSV files: one row an image, `label,pixel1,...,pixel784`."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import csv_text
from fmnist_sweep.data.data_config import MAX_IMAGES
from fmnist_sweep.data.description import IMAGE_SIDE, LABELS
from fmnist_sweep.data.download import call_within
from fmnist_sweep.data.folder import describe_folder, read_first_whole, refuse_folder_of_another_source
from fmnist_sweep.data.idx import Part, get_other_part
from fmnist_sweep.data.splits import ImageTable, hash_in_any_order
from fmnist_sweep.errors import DataError
from fmnist_sweep.process.environ import find_home
from fmnist_sweep.reading import UNPACKING_ERRORS, RefusedFile
from fmnist_sweep.text import quote_text

if TYPE_CHECKING:
    import pandas as pd

HANDLE = "zalando-research/fashionmnist"
HOW_TO_GET = (
    "download fashion-mnist_train.csv and fashion-mnist_test.csv from "
    f"https://www.kaggle.com/datasets/{HANDLE} and set data.dir to their folder, or install kagglehub (pip "
    "install 'fmnist-sweep[kaggle]'), set KAGGLE_API_TOKEN (or KAGGLE_USERNAME and KAGGLE_KEY, or "
    "~/.kaggle/kaggle.json) and data.download=true"
)
COLUMNS = ["label", *(f"pixel{number}" for number in range(1, IMAGE_SIDE * IMAGE_SIDE + 1))]
KAGGLE_SECONDS = 1800.0  # for 70 MB; kagglehub itself bounds only the wait for the next bytes
SUFFIXES = (".csv", ".csv.gz", ".csv.zip")
ROWS_AT_ONCE = 1024  # 6 MB as int64: pandas needs it before the values are known to fit uint8

# sha256 over the sorted (label, image) rows of the canonical files: Kaggle's rows are in another order.
CANONICAL_HASHES: dict[Part, str] = {
    "train": "23d0847d9126d5c6802a53a9f500589c268a56a198e59487c201f31e0b50cea3",
    "test": "12d524c7dc0398176d8e0e8b912b81331400f3fe085b466efdd22932f4e4917d",
}


def read_csv_part(folder: Path, part: Part) -> ImageTable:
    """Read and check the CSV of one part, in the file's order, plain or compressed.

    Errors: DataError where the file is missing, damaged, or the first value that is not Fashion-MNIST's.
    """
    names = [f"fashion-mnist_{part}{suffix}" for suffix in SUFFIXES]
    table = read_first_whole(folder, names, lambda path: _read_table(path, part))
    if table is not None:
        return table
    refuse_folder_of_another_source(folder, "kaggle_csv")
    raise DataError(
        f"{folder / names[0]} is missing: expected {' or '.join(names)}, found {describe_folder(folder)}; {HOW_TO_GET}."
    )


def _read_table(path: Path, part: Part) -> ImageTable:
    blocks = [_check_values(path, chunk, first_line) for first_line, chunk in _read_chunks(path)]
    if not blocks:
        raise DataError(f"{path} holds no images: expected rows below its header, found none; {HOW_TO_GET}.")
    rows = np.concatenate(blocks)
    table = ImageTable(rows[:, 1:].reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 1), rows[:, 0].astype(np.int64))
    _refuse_swapped(path, table, part)
    return table


def is_canonical_table(table: ImageTable, part: Part) -> bool:
    """Whether these are the canonical images and labels, in any order."""
    return hash_in_any_order(table) == CANONICAL_HASHES[part]


def download_csv_files() -> Path:
    """The folder into which kagglehub has put the files, downloaded when it lacks them.

    Errors: DataError where kagglehub or credentials are missing, or Kaggle does not give the files.
    """
    if importlib.util.find_spec("kagglehub") is None:
        raise DataError(f"Kaggle's Fashion-MNIST CSV files cannot be downloaded without kagglehub: {HOW_TO_GET}.")
    if not _has_credentials():
        raise DataError(
            "Kaggle's Fashion-MNIST CSV files cannot be downloaded without credentials: expected "
            "KAGGLE_API_TOKEN, KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json, found none; "
            f"{HOW_TO_GET}."
        )
    import kagglehub
    from kagglehub.exceptions import BackendError, CredentialError, DataCorruptionError, UnauthenticatedError

    refusals = (OSError, ValueError, BackendError, CredentialError, DataCorruptionError, UnauthenticatedError)
    try:
        return Path(call_within(KAGGLE_SECONDS, lambda: kagglehub.dataset_download(HANDLE)))
    except refusals as error:
        cause = " ".join(str(error).split())
        raise DataError(f"kagglehub could not download {HANDLE} ({cause}); {HOW_TO_GET}.") from error


def _has_credentials() -> bool:
    if os.environ.get("KAGGLE_API_TOKEN"):
        return True
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return True
    return (Path(os.environ.get("KAGGLE_CONFIG_DIR") or find_home() / ".kaggle") / "kaggle.json").is_file()


def _refuse_swapped(path: Path, table: ImageTable, part: Part) -> None:
    other = get_other_part(part)
    if is_canonical_table(table, other):
        raise DataError(
            f"{path} is swapped with another file: expected the {part} images, found the canonical {other} "
            "images; give each file its own name back."
        )


def _refuse_columns(path: Path, header: csv_text.Header) -> None:
    counts = Counter(header.names)
    missing = [name for name in COLUMNS if name not in counts]
    unexpected = [name for name in counts if name not in set(COLUMNS)]
    repeated = [name for name, count in counts.items() if count > 1 and name in set(COLUMNS)]
    problems = [f"no {missing[0]}"] if missing else []
    problems += [f"an unexpected {quote_text(repr(unexpected[0]))}"] if unexpected else []
    problems += [f"{quote_text(repeated[0])} twice"] if repeated else []
    if problems:
        raise DataError(
            f"{path} has the wrong columns: expected {len(COLUMNS)} named label, pixel1 to pixel784, found "
            f"{len(header.names)} with {' and '.join(problems)} in its first line; {HOW_TO_GET}."
        )


@contextmanager
def _report_damage(path: Path) -> Iterator[None]:
    """Turn what pandas and the unpackers say of a damaged file into one sentence."""
    try:
        yield
    except RefusedFile as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {HOW_TO_GET}.") from error
    except (ValueError, OSError, *UNPACKING_ERRORS) as error:
        cause = quote_text(" ".join(str(error).split()), 200)
        raise DataError(
            f"{path} cannot be read as CSV: expected {len(COLUMNS)} values a line, found "
            f"{cause.rstrip('.')}; {HOW_TO_GET}."
        ) from error


def _read_chunks(path: Path) -> Iterator[tuple[int, pd.DataFrame]]:
    """Some rows at a time, each with the line number of its first row."""
    import pandas as pd

    with _report_damage(path), csv_text.open_csv(path) as (header, text):
        _refuse_columns(path, header)
        # Without the NA filter an empty or odd field stays as written, so that an error can quote it; blank lines
        # are kept so that line numbers stay true.
        reader = pd.read_csv(
            text,
            chunksize=ROWS_AT_ONCE,
            sep=header.separator,
            names=header.names,
            skiprows=header.line,
            quoting=csv.QUOTE_NONE,
            skipinitialspace=True,
            na_filter=False,
            skip_blank_lines=False,
            low_memory=False,
            encoding_errors="replace",
        )
        first_line = header.line + 1
        with reader:
            for chunk in reader:
                if first_line - header.line + len(chunk) > MAX_IMAGES:
                    raise DataError(
                        f"{path} holds more than {MAX_IMAGES:,} rows: expected Fashion-MNIST; {HOW_TO_GET}."
                    )
                if len(chunk):  # a file with only a header is one empty chunk
                    yield first_line, chunk
                first_line += len(chunk)


def _check_values(path: Path, chunk: pd.DataFrame, first_line: int) -> NDArray[np.uint8]:
    """The rows as uint8, label first, after checking that each value fits."""
    import pandas as pd

    if not isinstance(chunk.index, pd.RangeIndex):
        raise DataError(
            f"{path}, line {first_line}: expected {len(COLUMNS)} values, found "
            f"{chunk.shape[1] + chunk.index.nlevels}; {HOW_TO_GET}."
        )
    chunk = chunk[COLUMNS]
    values = chunk.to_numpy() if (chunk.dtypes == np.int64).all() else _convert_to_numbers(chunk)
    highest = np.full(len(COLUMNS), 255)
    highest[0] = len(LABELS) - 1
    # Negated so that NaN, which compares false with everything, counts as wrong.
    wrong = ~((values >= 0) & (values <= highest) & (values == np.floor(values)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        cell = str(chunk.iat[row, column]).strip()
        raise DataError(
            f"{path}, line {first_line + row}, column {COLUMNS[column]}: expected a whole number from 0 to "
            f"{highest[column]}, found {quote_text(repr(cell)) if cell else 'nothing'}; {HOW_TO_GET}."
        )
    return values.astype(np.uint8, order="C")


def _convert_to_numbers(chunk: pd.DataFrame) -> NDArray[np.float64]:
    """The values as floats, NaN where something is not a number."""
    import pandas as pd

    # As text first: pandas reads a column of True and False as numbers otherwise.
    columns = [pd.to_numeric(chunk[name].astype(str), errors="coerce") for name in chunk.columns]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
