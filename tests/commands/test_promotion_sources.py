"""A champion and finalists whose images come from different files: the same images, in another order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmnist_sweep.data.idx import Part, read_idx_part
from fmnist_sweep.data.kaggle_csv import COLUMNS
from fmnist_sweep.tracking.names import TEST_PREDICTIONS_FILE
from fmnist_sweep.tracking.store import locate_local_artifacts
from tests.conftest import Command
from tests.support.promotions import HERE, SMALL, artifact, idx_files, look, nothing_changed, opened, step, swept

TINY = ("model.filters=4", "train.epochs=1", *SMALL)
PARTS: tuple[Part, ...] = ("train", "test")


def write_csv_files(folder: Path, idx: Path) -> Path:
    """Kaggle's two files with the images of IDX files, in another order."""
    folder.mkdir()
    for part in PARTS:
        table = read_idx_part(idx, part).table
        rows = np.column_stack([table.labels, table.images.reshape(len(table.labels), -1)])
        shuffled = np.random.default_rng(1).permutation(rows)
        pd.DataFrame(shuffled, columns=COLUMNS).to_csv(folder / f"fashion-mnist_{part}.csv", index=False)
    return folder


@pytest.mark.slow
def test_a_finalist_on_kaggles_files_is_compared_with_a_champion_on_the_idx_files(
    tmp_path: Path, warm_sweep: Command, warm_verb: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx = idx_files(tmp_path / "idx", 200, 100)
    csv, work = write_csv_files(tmp_path / "csv", idx), tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("FMNIST_DATA_DIR", str(idx))
    swept(work, warm_sweep, *TINY)
    promote = ("promote", "--any-data", *HERE)
    first = step(work, warm_verb, *promote, "promote.seeds=2")
    assert first.code == 0, first.out + first.error
    swept(work, warm_sweep, "data=kaggle_csv", f"data.dir={csv}", "seed=2", *TINY)

    # What an earlier release wrote of the champion does not say which image is which.
    champions = first.after.kind("confirmation")
    root = locate_local_artifacts(opened(work), champions[0].info.run_id)
    assert root is not None
    content = (root / TEST_PREDICTIONS_FILE).read_bytes()
    with np.load(root / TEST_PREDICTIONS_FILE) as file:
        np.savez(root / TEST_PREDICTIONS_FILE, **{key: file[key] for key in file if key != "image_hashes"})
    refused = step(work, warm_verb, *promote, "promote.seeds=3", "--data-dir", str(csv))
    assert refused.code == 8, refused.out
    assert "on kaggle_csv but version 1 (the champion) on fashion_mnist" in refused.told
    assert nothing_changed(refused)
    (root / TEST_PREDICTIONS_FILE).write_bytes(content)

    # The champion's third seed is trained on the files that FMNIST_DATA_DIR names.
    done = step(work, warm_verb, *promote, "promote.seeds=3", "--data-dir", str(csv))
    assert done.code in (0, 8, 9), done.out + done.error
    assert "version 1 (the champion) has 2 fresh seeds and will get 3" in done.out
    confirmations = done.after.kind("confirmation")
    sources = [run.data.tags["fmnist.data"].partition(":")[0] for run in confirmations]
    assert (sources.count("fashion_mnist"), sources.count("kaggle_csv")) == (3, 3)
    promotion = done.after.kind("promotion")[-1]
    place = done.out.partition("evidence: ")[2].partition("/evidence.html")[0]
    found = json.loads(artifact(work, promotion.info.run_id, f"{place}/evidence.json"))
    assert found["judgement"]["champion"]["accuracy"]["n"] == 3
    assert found["judgement"]["standings"][0]["difference"]["images"] == 100
    assert look(work).ledger[-1]["source"] == "kaggle_csv"
