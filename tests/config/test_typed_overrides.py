"""Hydra's functions for several values: what has no values or no end is refused in a plain sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.errors import ConfigError

# What is typed, and what the sentence must say after it, with -m and without.
ODD = [
    # Ranges without end, or without values.
    ("seed=range(1,2,0)", "a range with a step of 0 has no end; give another step"),
    ("optimizer.learning_rate=range(0.0,1.0,0.0)", "a range with a step of 0 has no end"),
    ("seed=tag(a,range(1,2,0))", "a range with a step of 0 has no end"),
    ("seed=range(5,1)", "from 5 to 1 a range is empty unless its step is below 0; write 'seed=range(5,1,-1)'."),
    ("seed=range(1,5,-1)", "from 1 to 5 a range is empty unless its step is above 0; write 'seed=range(1,5)'."),
    ("seed=range(-3)", "write 'seed=range(0,-3,-1)'."),
    ("seed=shuffle(range(3,1))", "write 'seed=range(3,1,-1)'."),
    ("optimizer.learning_rate=range(0.1,0.01,0.02)", "range(0.1,0.01,-0.02)'."),
    ("seed=range(4,4)", "the range is empty, as its end does not belong to it; write seed=4."),
    ("seed=range(0)", "write seed=0."),
    ("seed=range(nan,3)", "a range goes from number to number"),
    ("seed=range(0,3,nan)", "a range goes from number to number"),
    ("seed=range(0,3,inf)", "a range goes from number to number"),
    ("seed=range(a,b)", "range(a,b) cannot be read (an argument of another kind); write range(START,STOP)"),
    ("seed=range()", "range() cannot be read"),
    ("seed=range(1,2,3,4)", "too many positional arguments"),
    # Patterns.
    ("seed=glob(*)", "a pattern stands for options of a group, and seed is none; list its values."),
    ("model.filters=glob(*)", "and model.filters is none"),
    ("optimizer.name=glob(*)", "and optimizer.name is none"),
    ("data.dir=glob(*)", "and data.dir is none"),
    ("optimizer=glob()", "glob() cannot be read (missing a required argument: 'include'); write glob(PATTERN)"),
    # Intervals.
    ("seed=interval(1,5)", "an interval has no values to make studies of; list some, as in seed=1,5."),
    ("data.limit=interval(100,200)", "list some, as in data.limit=100,200."),
    ("optimizer.learning_rate=interval(1,0)", "{tune: float, min_value: 0, max_value: 1}'."),
    ("model.filters=interval(8,8)", "list some, as in model.filters=8."),
    ("seed=interval(1)", "interval(1) cannot be read"),
    # Choices, sorted, shuffled, cast or none.
    ("seed=choice()", "choice() cannot be read (empty choice is not legal); write choice(A,B)."),
    ("seed=shuffle(choice())", "choice() cannot be read"),
    ("seed=choice(choice(1,2))", "nesting choices is not supported"),
    ("seed=sort()", "sort() cannot be read (empty sort input); write sort(A,B)."),
    ("model.filters=int(x)", "int(x) cannot be read"),
    ("seed=[]", "seed takes one value, not a list; name one value."),
    ("seed=foo(1,2)", "there is no function foo; there are bool, choice,"),
    # Functions that stand for numbers, where an option's name is meant.
    ("optimizer=range(1,3)", "optimizer takes the name of one option; choose one of adam, adamw, muon, rmsprop, sgd."),
    ("optimizer=interval(1,3)", "optimizer takes the name of one option; choose one of adam"),
    ("experiment=range(1,3)", "experiment takes the name of one option"),
]


@pytest.mark.parametrize("flags", [("-m",), ()])
@pytest.mark.parametrize(("override", "words"), ODD)
def test_a_function_without_values_is_refused_with_what_to_type(
    override: str, words: str, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        compose_jobs([*flags, override])
    sentence = str(refused.value)
    assert sentence.startswith(f"{override} (command line): ")
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pattern", ["glob(nosuch*)", "glob(*,exclude=*)", "glob([x*,y*])"])
def test_a_pattern_that_matches_no_option_is_refused_with_the_options(pattern: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_jobs(["-m", f"optimizer={pattern}"])
    assert str(refused.value) == (
        f"optimizer={pattern} (command line): no option of optimizer matches; "
        "choose some of adam, adamw, muon, rmsprop, sgd."
    )


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("seed=range(3,1,-1)", [3, 2]),
        ("seed=range(2)", [0, 1]),
        ("seed=sort(2,1)", [1, 2]),
        ("optimizer=glob(ad*)", ["adam", "adamw"]),
        ("model.filters=int(choice(8,16))", [8, 16]),
    ],
)
def test_a_function_with_values_makes_a_study_of_each(override: str, values: list[object]) -> None:
    jobs = compose_jobs(["-m", override, "data=drawn"])
    key = override.partition("=")[0]
    assert [job.overrides[0] for job in jobs] == [f"{key}={value}" for value in values]
