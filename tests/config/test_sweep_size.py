"""A multirun's studies are counted before any is listed, and a folder of configs is read with a bound."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.errors import ConfigError

QUICK = ("data=drawn", "data.images=200", "plan=true")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=range(0,100000000)"], "these are 100,000,000 studies"),
        (["seed=range(100000000)"], "100,000,000"),
        (["seed=range(0,1000000000,7)"], "142,857,143"),
        (["seed=range(100000000,0,-1)"], "100,000,000"),
        (["seed=shuffle(range(0,100000000))"], "100,000,000"),
        (["seed=sort(range(0,100000000),reverse=true)"], "100,000,000"),
        (["optimizer.learning_rate=range(0.0,1.0,1e-9)"], "1,000,000,000"),
        (["seed=range(0,inf)"], "far too many"),
        ([f"seed=range(0,{'9' * 290})"], "… (304 characters)"),
        (["seed=range(0,200)", "optimizer=rmsprop,adam", "model.filters=8,16,32"], "seed=range(0,200) (command line)"),
        (["seed=range(0,40)", "model=glob(*)", "optimizer=glob(*)"], "studies"),
        ([f"seed={','.join(map(str, range(1001)))}"], "1,001"),
    ],
)
def test_more_studies_than_a_command_can_run_are_refused_before_they_are_listed(
    overrides: list[str], words: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as error:
            compose_jobs(["-m", *QUICK, *overrides])
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20  # a hundred million numbers take ten times that
    finally:
        tracemalloc.stop()
    assert words in str(error.value)
    assert "at most 1,000 in one command" in str(error.value)
    assert len(str(error.value)) < 500


def test_a_few_studies_are_composed() -> None:
    assert [job.config.settings["seed"] for job in compose_jobs(["-m", *QUICK, "seed=range(0,6,2)"])] == [0, 2, 4]


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)  # takes no place on the disk


IRREGULAR: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_no_file_in_a_folder_of_configs_is_never_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "model").mkdir()
    IRREGULAR[kind](tmp_path / "model" / "own.yaml")
    assert len(compose_jobs(["--config-dir", str(tmp_path), *QUICK])) == 1
    with pytest.raises(ConfigError, match="model=own"):
        compose_jobs(["--config-dir", str(tmp_path), *QUICK, "model=own"])


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]\n", "a: &a {b: *a}\n", None])
def test_a_config_that_would_fill_the_memory_is_refused(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "own.yaml"
    if text is None:
        make_large(path)
    else:
        path.write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as error:
            compose_jobs(["--config-dir", str(tmp_path), *QUICK, "model=own"])
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500 + len(str(path))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.dense_units={tune: int, min_value: 1, max_value: 4096, step: 0}", "step must be above 0"),
        ("optimizer.learning_rate={tune: float, min_value: 0.1, max_value: 1.0, step: 1e-9}", "at most 10,000"),
        (
            "optimizer.learning_rate={tune: float, min_value: 1e-300, max_value: 1.0, step: 1.000001, sampling: log}",
            "10,000",
        ),
        (f"train.epochs=1{'0' * 200}", "from 1 to 1000000"),
        (f"search.max_trials=1{'0' * 200}", "from 1 to 1000000"),
        (f"seed=1{'0' * 400}", "at most 300 digits"),
        (f"data.limit=1{'0' * 5000}", "at most 300 digits"),
        (f"optimizer.learning_rate=0.{'0' * 5000}1", "at most 300 digits"),
        (f"seed={'[' * 200}1{']' * 200}", "at most 20 deep, found 200"),
        (f"seed={'{a:' * 3000}1{'}' * 3000}", "at most 20 deep, found 3000"),
        (f"data.images=1{'0' * 12}", "from 20 to 1000000"),
        (f"model.filters={'x' * 5000}", "from 1 to 4096"),
        (f"model.filters.values=[{','.join(map(str, range(1, 3000)))},0]", "may draw 0"),
        (f"{'y' * 5000}=1", "there is no such key"),
        (f"model={'z' * 5000}", "no such option"),
        (f"data.{'w' * 5000}=1", "there is no such key"),
        (f"train.loss={'v' * 5000}", "binary_crossentropy"),
        (f"seed=[{'1,' * 3000}", "cannot be read"),
        (f"+tags={{{','.join(f'k{n}: {n}' for n in range(2000))}}}", "unknown key"),
        (f"tracking.experiment={'e' * 5000}", "256"),
    ],
)
def test_a_value_of_any_length_or_size_is_one_short_sentence(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_jobs([*QUICK, override])
    assert words in str(error.value)
    assert len(str(error.value)) < 800, str(error.value)
