"""fmnist-sweep compare and fmnist_sweep.trials: a real store with really trained models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import fmnist_sweep
from fmnist_sweep.analysis import comparison
from fmnist_sweep.analysis.pair import compare_trials
from fmnist_sweep.cli.main import main
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.tracking.prediction_files import read_intact_predictions, read_predictions
from fmnist_sweep.tracking.runs import RunInfo, start_run
from fmnist_sweep.tracking.store import (
    Store,
    build_default_uri,
    locate_local_artifacts,
    open_existing_store,
)
from fmnist_sweep.tracking.trial_search import find_trial, read_trial_record
from fmnist_sweep.tracking.trials import StoredTrial, read_trials
from tests.conftest import Command

TINY = (
    *("data=drawn", "data.images=400", "data.validation=0.5", "model.conv_layers=1", "model.dense_units=8"),
    *("train=default", "model.growth=1", "model.pooling=after_activation"),
    *("regularization=none", "train.precision=float32", "train.epochs=2", "train.batch_size=16", "executor=in_process"),
)
DIVERGES = ("optimizer=sgd", "optimizer.learning_rate=0.01,10.0", "optimizer.momentum=0.9", "regularization.l2=1.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_sweep: Command) -> Path:
    """Two configurations with two seeds each; and, on other images, a finished and a failed trial."""
    made = tmp_path_factory.mktemp("compare")
    for given, code in (
        (("model.filters=2,8", "seed=1,2", "optimizer.learning_rate=0.001"), 0),
        (("data.drawn_seed=1", "model.filters=4", *DIVERGES, "train.batch_size=4"), 5),
    ):
        done = warm_sweep("-m", *TINY, *given, cwd=made, environment={"FAULTS_PLAIN": "1"})
        assert done.returncode == code, done.stdout + done.stderr
    return made


@pytest.fixture
def store(folder: Path) -> Store:
    return open_existing_store(build_default_uri(folder), "fashion-mnist")


def trial_of(store: Store, filters: int, seed: int = 1, state: str = "finished") -> StoredTrial:
    """The trial with so many filters."""
    (found,) = (
        each
        for each in read_trials(store, {})
        if (each.parse_value("model.filters"), each.parse_value("seed"), each.state) == (filters, seed, state)
    )
    return found


def predictions_file(store: Store, trial: StoredTrial) -> Path:
    artifacts = locate_local_artifacts(store, trial.run_id)
    assert artifacts is not None
    return artifacts / "predictions.npz"


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """A file with other content, or gone, for a while."""
    kept = path.read_bytes()
    try:
        path.unlink() if content is None else path.write_bytes(content)
        yield
    finally:
        path.write_bytes(kept)


def compare(folder: Path, *words: str) -> Result:
    """The verb, in this process, on the folder's store and a wide terminal."""
    arguments = ["compare", *words, "--uri", build_default_uri(folder)]
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "250"})


def explained(folder: Path, a: StoredTrial, b: StoredTrial) -> dict[str, Any]:
    done = compare(folder, a.run_id, b.run_id, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_trials_gives_every_trial_of_the_store_with_what_mlflow_has_of_it(folder: Path, store: Store) -> None:
    frame = fmnist_sweep.trials(store.uri)
    runs = store.client.search_runs([store.experiment_id], "tags.`fmnist.kind` = 'trial'")
    assert sorted(frame["run_id"]) == sorted(run.info.run_id for run in runs)
    for run in runs:
        (row,) = frame[frame["run_id"] == run.info.run_id].to_dict("records")
        assert row["model.filters"] == int(run.data.params["model.filters"])
        assert row["optimizer.learning_rate"] == float(run.data.params["optimizer.learning_rate"])
        assert row["state"] == run.info.status.lower()
        if run.info.status == "FINISHED":
            assert row["best_val_accuracy"] == run.data.metrics["best_val_accuracy"]
            assert row["low"] < row["best_val_accuracy"] < row["high"]
            assert row["val_f1.Shirt"] == run.data.metrics["val_f1.Shirt"]
            assert row["images"] == 200
            assert row["cpu_seconds"] > 0
        else:
            assert pd.isna(row["best_val_accuracy"])
            assert row["failure"] == run.data.tags["fmnist.failure"]


def test_trials_of_a_sweep_a_study_or_a_condition_are_those_alone(folder: Path, store: Store) -> None:
    everything = fmnist_sweep.trials(store.uri)
    first = everything["sweep_id"].iloc[0]
    assert len(fmnist_sweep.trials(store.uri, sweep=first)) == 4
    study = everything["study_id"].iloc[0]
    assert fmnist_sweep.trials(store.uri, study=study)["study_id"].tolist() == [study]
    assert fmnist_sweep.trials(store.uri, sweep=first, study=study)["study_id"].tolist() == [study]
    assert set(fmnist_sweep.trials(store.uri, where=["model.filters>=4", "state=finished"])["model.filters"]) == {4, 8}
    assert not len(fmnist_sweep.trials(store.uri, kinds=["confirmation"]))
    with pytest.raises(ConfigError, match="no study"):
        fmnist_sweep.trials(store.uri, study="0123456789ab")
    with pytest.raises(ConfigError, match="no id"):
        fmnist_sweep.trials(store.uri, sweep="x' or '1' = '1")


def test_the_list_has_the_best_first_and_columns_for_what_varies_alone(folder: Path, store: Store) -> None:
    done = compare(folder)
    assert done.exit_code == 0, done.output
    scored = [trial for trial in read_trials(store, {}) if trial.accuracy is not None]
    lines = [line for line in done.stdout.splitlines() if "/0000" in line]
    assert len(lines) == 6
    accuracies = [trial_accuracy(line, scored) for line in lines[: len(scored)]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert "failed: " in lines[-1]
    assert "filters" in done.stdout
    assert "dense_units" not in done.stdout
    assert "[0." in lines[0]


def trial_accuracy(line: str, trials: list[StoredTrial]) -> float:
    (found,) = (trial for trial in trials if trial.run_id[:8] in line)
    assert f"{found.accuracy:.4f}" in line
    return found.accuracy or 0.0


def test_a_narrow_terminal_loses_columns_and_says_which(folder: Path, store: Store) -> None:
    done = CliRunner().invoke(main, ["compare", "--uri", build_default_uri(folder)], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert "no room here for" in done.stdout
    (row,) = (line for line in done.stdout.splitlines() if trial_of(store, 8).run_id[:8] in line)
    assert f"{trial_of(store, 8).accuracy:.4f} " in row
    assert len(row) <= 80


def test_a_front_lists_what_no_trial_beats_in_both_the_cheapest_first(folder: Path, store: Store) -> None:
    data = trial_of(store, 8).data
    done = compare(folder, "--where", f"data={data}", "--front", "parameters", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    best_small = max(trial_of(store, 2, seed).accuracy or 0 for seed in (1, 2))
    best_large = max(trial_of(store, 8, seed).accuracy or 0 for seed in (1, 2))
    assert rows[0]["best_val_accuracy"] == best_small
    assert {row["model.filters"] for row in rows} == ({2, 8} if best_large > best_small else {2})
    assert all(row["size_bytes"] > 1000 and row["ms_per_image"] > 0 for row in rows)
    done = compare(folder, "--where", f"data={data}", "--front", "bytes")
    assert "no other of 6 trials beats these in accuracy and bytes alike." in done.stdout
    assert not compare(folder, "--where", "state=failed", "--front", "bytes").stdout.count("\n") > 1
    refused = compare(folder, "--front", "bytes")
    assert refused.exit_code == 2
    assert f"add --where data={min(data, trial_of(store, 4).data)}" in refused.stderr


def test_conditions_order_columns_and_limit_are_those_asked_for(folder: Path) -> None:
    done = compare(folder, "--where", "state=finished", "--sort", "-model.filters", "--columns", "model.filters,seed")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit()] == [8, 8, 4, 2, 2]
    done = compare(folder, "--sort", "model.filters", "--limit", "1", "--json")
    (row,) = json.loads(done.stdout)
    assert row["model.filters"] == 2


def test_configurations_are_listed_with_mean_and_spread_over_their_seeds(folder: Path, store: Store) -> None:
    done = compare(folder, "--by-config", "--where", "model.filters=8")
    told = comparison.summarize_repeats([trial_of(store, 8, seed).accuracy or 0.0 for seed in (1, 2)])
    assert str(told) in done.stdout
    assert "1 of 1 configurations" in done.stdout
    everything = compare(folder, "--by-config")  # the failed trial has settings that no finished one has
    assert everything.exit_code == 0, everything.output
    assert "3 of 3 configurations" in everything.stdout
    assert "left out, without a score: 1 of 6 trials" in everything.stdout


def test_the_exported_table_is_the_listed_one(folder: Path, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    done = compare(folder, "--export", str(path), "--where", "model.filters=8")
    assert done.exit_code == 0, done.output
    read = pd.read_csv(path)
    assert set(read["run_id"]) == {trial_of(store, 8, seed).run_id for seed in (1, 2)}
    again = compare(folder, "--export", str(path))
    assert again.exit_code == 2
    assert len(pd.read_csv(path)) == 2


def test_two_trials_are_explained_by_what_their_predictions_say(folder: Path, store: Store) -> None:
    a, b = trial_of(store, 8), trial_of(store, 2)
    found = explained(folder, a, b)
    told_a, told_b = read_predictions(store, a.run_id), read_predictions(store, b.run_id)
    assert told_a is not None and told_b is not None
    assert found["settings"] == {"model.filters": {"a": 8, "b": 2}}
    models = found["verdicts"]["models"]
    assert models["only_a"] == int((told_a.correct_mask & ~told_b.correct_mask).sum()) == found["images"]["only_a"]
    assert models["only_b"] == int((told_b.correct_mask & ~told_a.correct_mask).sum()) == found["images"]["only_b"]
    assert models["value"] == pytest.approx((a.accuracy or 0) - (b.accuracy or 0))
    counts = ("both_right", "only_a", "only_b", "both_wrong")
    assert sum(found["images"][name] for name in counts) == found["a"]["images"] == 200
    configurations = found["verdicts"]["configurations"]
    assert configurations["high"] - configurations["low"] > models["high"] - models["low"]
    assert found["verdicts"]["seed_sd"] == comparison.SEED_SD  # two repetitions are too few to measure it
    assert found["a"]["seeds"]["n"] == found["b"]["seeds"]["n"] == 2
    assert found["verdicts"]["over_seeds"] is not None
    assert [len(found[side]["curve"]) for side in "ab"] == [2, 2]
    for example in found["images"]["only_a_examples"]:
        row = example["row"]
        assert told_a.correct_mask[row] and not told_b.correct_mask[row]
        assert told_a.index[row] == example["position"]
    sure = [example["b_confidence"] for example in found["images"]["only_a_examples"]]
    assert sure == sorted(sure, reverse=True)


def test_the_difference_on_each_label_is_that_of_its_images(folder: Path, store: Store) -> None:
    a, b = trial_of(store, 8), trial_of(store, 2)
    labels = explained(folder, a, b)["labels"]
    told_a, told_b = read_predictions(store, a.run_id), read_predictions(store, b.run_id)
    assert told_a is not None and told_b is not None
    for number, label in enumerate(labels):
        mine = told_a.labels == number
        expected = comparison.compare_models(told_a.correct_mask[mine], told_b.correct_mask[mine], comparisons=10)
        assert label["recall"] == {**vars(expected), "verdict": expected.verdict}
        assert label["a"]["recall"] == pytest.approx(told_a.correct_mask[mine].mean())


def test_turned_round_the_difference_has_the_other_sign(folder: Path, store: Store) -> None:
    a, b = trial_of(store, 8), trial_of(store, 2)
    one, other = explained(folder, a, b)["verdicts"], explained(folder, b, a)["verdicts"]
    for name in ("models", "configurations", "over_seeds"):
        assert one[name]["value"] == pytest.approx(-other[name]["value"])
        assert one[name]["low"] == pytest.approx(-other[name]["high"])
        assert one[name]["p"] == pytest.approx(other[name]["p"])


def test_the_same_configuration_with_the_same_seed_is_not_said_to_have_another(store: Store) -> None:
    from fmnist_sweep.report.pair_text import render_pair

    record = read_trial_record(store, trial_of(store, 8))
    found = compare_trials(record, record, partial(read_intact_predictions, store))
    said = [part for part in render_pair(found) if isinstance(part, str)]
    assert "  Their configurations: the same, with the same seed." in said


def test_the_same_configuration_with_another_seed_is_called_that(folder: Path, store: Store) -> None:
    done = compare(folder, trial_of(store, 8, 1).run_id, trial_of(store, 8, 2).run_id)
    assert done.exit_code == 0, done.output
    assert "the same, with another seed; what differs is luck" in done.stdout
    assert "over all seeds" not in done.stdout
    for heading in ("What differs", "Curves", "Label by label", "On which images"):
        assert heading in done.stdout


def test_trials_scored_on_other_images_are_not_compared_image_by_image(folder: Path, store: Store) -> None:
    a, b = trial_of(store, 8), trial_of(store, 4)
    # Even where places and labels are the same, images drawn with another seed are others.
    path, other = predictions_file(store, b), predictions_file(store, a)
    for content in (path.read_bytes(), other.read_bytes()):
        with replaced(path, content):
            check_they_are_not_compared(folder, a, b)


def check_they_are_not_compared(folder: Path, a: StoredTrial, b: StoredTrial) -> None:
    done = compare(folder, a.run_id, b.run_id)
    assert done.exit_code == 0, done.output
    assert "cannot be compared image by image: they were scored on different validation images" in done.stdout
    assert "Label by label" not in done.stdout
    picture = compare(folder, a.run_id, b.run_id, "--picture", str(folder / "none.png"))
    assert picture.exit_code == 3
    assert not (folder / "none.png").exists()


def test_a_failed_trial_is_compared_by_its_settings_and_its_failure_told(folder: Path, store: Store) -> None:
    failed = trial_of(store, 4, state="failed")
    done = compare(folder, trial_of(store, 8).run_id, failed.run_id)
    assert done.exit_code == 0, done.output
    assert failed.failure is not None
    assert failed.failure[:40] in done.stdout
    assert "without a score" in done.stdout
    assert "optimizer.learning_rate" in done.stdout


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 torn", b"no zip at all"])
def test_lost_or_damaged_predictions_are_said_and_the_rest_is_shown(
    folder: Path, store: Store, content: bytes | None
) -> None:
    a, b = trial_of(store, 8), trial_of(store, 2)
    with replaced(predictions_file(store, b), content):
        done = compare(folder, a.run_id, b.run_id)
    assert done.exit_code == 0, done.output
    assert "predictions.npz" in done.stdout
    assert "model.filters" in done.stdout


def test_a_trial_is_named_by_its_run_its_beginning_its_study_or_its_name(folder: Path, store: Store) -> None:
    wanted = trial_of(store, 8)
    for word in (wanted.run_id, wanted.run_id[:8], f"{wanted.study_id}/{wanted.trial_id}", wanted.name):
        assert find_trial(store, word).run_id == wanted.run_id


def test_a_name_of_several_trials_lists_them(store: Store) -> None:
    both = [
        start_run(
            store, RunInfo("trial", "twice", {"fmnist.study_id": "s", "fmnist.trial_id": "0"}, "none"), may_exist=False
        )
        for _ in range(2)
    ]
    try:
        with pytest.raises(ConfigError) as refused:
            find_trial(store, "twice")
        assert all(run in str(refused.value) for run in both)
    finally:
        for run in both:
            store.client.delete_run(run)


@pytest.mark.parametrize("word", ["abc", "0" * 32, "no such name", "o'clock", "", "a/b", "%%%%%%", "______"])
def test_a_word_that_names_no_trial_is_refused(store: Store, word: str) -> None:
    with pytest.raises(ConfigError, match="names no trial"):
        find_trial(store, word)


def test_the_picture_shows_the_images_and_replaces_no_file(folder: Path, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "apart.png"
    words = (trial_of(store, 8).run_id, trial_of(store, 2).run_id, "--picture", str(path))
    done = compare(folder, *words)
    assert done.exit_code == 0, done.output
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    path.write_bytes(b"mine")
    assert compare(folder, *words).exit_code == 2
    assert path.read_bytes() == b"mine"
    assert compare(folder, *words, "--force").exit_code == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("abcdef",), "two trials"),
        (("a", "b", "c"), "two trials"),
        (("abcdef", "fedcba", "--limit", "3"), "--limit"),
        (("--picture", "x.png"), "needs two trials"),
        (("--where", "model.filter=8"), "did you mean model.filters?"),
        (("--columns", "sead"), "did you mean seed?"),
        (("--sort", "-sead"), "did you mean seed?"),
        (("--front", "bytes", "--by-config"), "leave out --by-config"),
        (("abcdef", "fedcba", "--front", "bytes"), "--front is for lists"),
        (("--study", "nope"), "no study nope"),
        (("--sweep", "nope"), "no sweep nope"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_exit_code_2(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = compare(folder, *words)
    assert done.exit_code == 2
    # Tests before this one deleted trials, which is said first.
    (sentence,) = [line for line in done.stderr.strip().splitlines() if "to restore: " not in line]
    assert said in sentence


def test_a_store_that_is_not_there_is_exit_code_4_and_none_is_made(verb: Command, tmp_path: Path) -> None:
    done = verb("compare", cwd=tmp_path)
    assert done.returncode == 4
    assert "does not exist" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_collector_is_on_again_after_reading(store: Store) -> None:
    import gc

    assert gc.isenabled()
    assert read_trials(store, {})
    assert gc.isenabled()
