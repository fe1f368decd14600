"""What is typed is done as it is meant, or refused in a sentence that says what to type instead; nothing is created."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from fmnist_sweep.config.command_line import compose_jobs
from fmnist_sweep.config.compose import compose_job
from fmnist_sweep.config.folders import list_groups
from fmnist_sweep.config.known_keys import list_options
from fmnist_sweep.config.text_values import list_text_keys
from fmnist_sweep.errors import ConfigError, ExitCode
from tests.support.in_process import clean_environment, run_command

SWEEP = "type python -m fmnist_sweep -m"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder in which the command is typed, without data of this machine."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FMNIST_DATA_DIR", raising=False)
    return folder


def refuse(line: str | Sequence[str], folder: Path) -> str:
    """The sentence with which a command line is refused."""
    with pytest.raises(ConfigError) as refused:
        compose_jobs(shlex.split(line) if isinstance(line, str) else line)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    assert list(folder.iterdir()) == []
    return sentence


def read(line: str) -> list[tuple[str, ...]]:
    """The overrides of each job of a command line, as they are kept."""
    return [job.overrides for job in compose_jobs(shlex.split(line))]


# What is typed, and what the sentence must say.
MISMEANT = [
    # Several options of a group, which Hydra would mix.
    ("optimizer=[adam,sgd]", ["optimizer=[adam,sgd]", f"{SWEEP} optimizer=adam,sgd."]),
    ("seed=3 optimizer=[adam,sgd]", [f"{SWEEP} seed=3 optimizer=adam,sgd."]),
    ("experiment=[model_1,model_2]", [f"{SWEEP} experiment=model_1,model_2."]),
    ("executor=[local]", ["write executor=local."]),
    ("-m optimizer=[adam,sgd]", ["write optimizer=adam,sgd."]),
    ("-m optimizer=[adam,sgd],rmsprop", ["write optimizer=adam,sgd,rmsprop."]),
    ("model=[]", ["model takes the name of one option", "bn_dropout, cnn"]),
    ("model=[cnn,1]", ["model takes the name of one option", "bn_dropout, cnn"]),
    ("'+optimizer=[adam,sgd]'", ["write optimizer=adam", "without the +"]),
    # Several values without -m.
    ("optimizer=rmsprop,adam", [f"{SWEEP} optimizer=rmsprop,adam."]),
    ("plan=true optimizer=rmsprop,adam", [f"{SWEEP} plan=true optimizer=rmsprop,adam."]),
    ("--config-dir . seed=1,2", [f"{SWEEP} --config-dir . seed=1,2."]),
    ("model.filters=32,64", [f"{SWEEP} model.filters=32,64", "'model.filters={tune: choice, values: [32,64]}'"]),
    ("model.filters.values=32,64", [f"{SWEEP} model.filters.values=32,64", "'model.filters.values=[32,64]'"]),
    ("model=simple model.dense_widths=128,64", ["for one list 'model.dense_widths=[128,64]'"]),
    ("model.filters=[32,64]", ["model.filters=[32,64]", f"{SWEEP} model.filters=32,64", "{tune: choice"]),
    ("model.filters=[64]", ["takes one value, not a list", "write model.filters=64."]),
    ("-m model.filters=[32,64]", ["for a study of each write model.filters=32,64"]),
    ("train.epochs=[1,2]", [f"{SWEEP} train.epochs=1,2"]),
    ("seed=[1,2]", [f"{SWEEP} seed=1,2."]),
    ("'seed=range(1,3)'", [f"{SWEEP} 'seed=range(1,3)'."]),
    ("'model.filters=choice(32,64)'", [f"{SWEEP} 'model.filters=choice(32,64)'", "{tune: choice, values: [32,64]}"]),
    ("'optimizer=glob(*)'", [f"{SWEEP} 'optimizer=glob(*)'."]),
    ("'model.filters=shuffle(1,2)'", [f"{SWEEP} 'model.filters=shuffle(1,2)'"]),
    ("'model.filters=sort(2,1)'", [f"{SWEEP} 'model.filters=sort(2,1)'"]),
    ("optimizer=rmsprop,adam --cfg job", ["several values", "give one value"]),
    # What has no list of values.
    (
        "'optimizer.learning_rate=tag(log,interval(1e-4,1e-2))'",
        ["'optimizer.learning_rate={tune: float, min_value: 0.0001, max_value: 0.01, sampling: log}'"],
    ),
    ("-m 'optimizer.learning_rate=interval(1e-4,1e-2)'", ["{tune: float, min_value: 0.0001, max_value: 0.01}'"]),
    ("-m 'model.filters=interval(8,64)'", ["'model.filters={tune: int, min_value: 8, max_value: 64}'"]),
    # The choice of an option by its signs, or by what its file holds.
    ("+optimizer=adam", ["+optimizer=adam", "write optimizer=adam, without the +"]),
    ("++optimizer=adam", ["++optimizer=adam", "write optimizer=adam, without the +"]),
    ("~optimizer", ["~optimizer", "choose one of adam, adamw, muon, rmsprop, sgd"]),
    ("~optimizer=adam", ["~optimizer=adam", "choose one of adam"]),
    ("optimizer@train=adam", ["optimizer@train=adam", "write optimizer=adam, without a package"]),
    ("+optimizer@train=adam", ["write optimizer=adam, without a package"]),
    ("optimizer/foo=adam", ["optimizer/foo=adam", "did you mean optimizer?"]),
    ("optimizer=1", ["optimizer=1", "no such option", "adam, adamw, muon, rmsprop, sgd"]),
    ("optimizer=true", ["optimizer=true", "no such option"]),
    ("-m optimizer=1,2", ["optimizer=1", "no such option"]),
    ("train=null", ["train=null", "cannot be null", "alternating, augmented, cosine"]),
    ("-m model=cnn,null", ["model=cnn,null", "cannot be null"]),
    ("optimizer={adam:1}", ["optimizer={adam:1}", "unknown key", "name, learning_rate"]),
    ("-m optimizer.name=adam,sgd", ["optimizer.name=adam,sgd", "write optimizer=adam,sgd."]),
    ("optimizer.name=adam", ["write optimizer=adam instead of optimizer.name=adam"]),
    ("executor.name=ray", ["write executor=ray instead of executor.name=ray"]),
    ("train.schedule.name=cosine", ["write train=cosine instead of train.schedule.name=cosine"]),
    # Overrides that undo each other.
    ("-m model.filters=32,64 model.filters.values=[16,32]", ["model.filters=32,64 model.filters.values=[16,32]"]),
    ("model.filters.values=[16,32] model.filters=32", ["the second replaces all of model.filters"]),
    ("train.early_stopping=null train.early_stopping.patience=3", ["one value, which has no patience"]),
    ("-m optimizer=adam optimizer=adam,sgd", ["optimizer is given twice"]),
    ("-m optimizer=adam,sgd optimizer=adam", ["optimizer is given twice"]),
    ("-m train.epochs=1,2 train.epochs=3", ["train.epochs=1,2 train.epochs=3", "given twice"]),
    # Options that Hydra does not have, or not like that.
    ("--epochs 3", ["--epochs 3", "write train.epochs=3."]),
    ("--epochs=3", ["--epochs=3", "write train.epochs=3."]),
    ("plan=true --epoch 3", ["--epoch 3", "write train.epochs=3."]),
    ("--optimizer adam", ["--optimizer adam", "write optimizer=adam."]),
    ("--optimizer=adam", ["write optimizer=adam."]),
    ("-optimizer adam", ["-optimizer adam", "write optimizer=adam."]),
    ("--learning-rate 0.01", ["write optimizer.learning_rate=0.01."]),
    ("--data-dir '/a b'", ["write 'data.dir=/a b'."]),
    ("--train.epochs 3", ["write train.epochs=3."]),
    ("--experiment model_3", ["write experiment=model_3."]),
    ("--plan", ["write plan=true."]),
    ("--seed", ["write seed=VALUE."]),
    ("--name x", ["optimizer.name=x or search.name=x"]),
    ("--nonsense 3", ["--nonsense 3", "no such option", "KEY=VALUE"]),
    ("--config x", ["--config-path or --config-name or --config-dir"]),
    ("-e 3", ["-e 3", "no such option"]),
    ("-mplan=true", ["-mplan=true", "write -m plan=true."]),
    ("-hm", ["-hm", "write -h -m."]),
    ("-mr", ["write -m -r."]),
    ("-cjob", ["write -c job."]),
    ("-pmodel", ["write -p model."]),
    ("-cd/tmp", ["write -cd /tmp."]),
    ("-m=true", ["-m=true", "takes no value"]),
    ("--cfg", ["--cfg", "as in --cfg job"]),
    ("--cfg plan=true", ["--cfg plan=true", "job, hydra, all"]),
    ("--config-dir", ["--config-dir", "expected FOLDER"]),
    ("--config-dir=", ["--config-dir=", "expected FOLDER"]),
    ("--config-dir -m", ["--config-dir", "expected FOLDER"]),
    ("--config-dir a --config-dir b", ["--config-dir a --config-dir b", "given twice"]),
    ("--package model", ["--package model", "--cfg job"]),
    ("--cfg job --package nosuch", ["--package nosuch", "optimizer, train"]),
    # Words that are no overrides.
    ("optimizer adam", ["optimizer", "write optimizer=adam."]),
    ("optimizer = adam", ["write optimizer=adam."]),
    ("optimizer =adam", ["write optimizer=adam."]),
    ("model= cnn", ["write model=cnn if it belongs"]),
    ("epochs 3", ["write train.epochs=3."]),
    ("train.epochs:3", ["write train.epochs=3."]),
    ("plan", ["write plan=true."]),
    ("data.dir=/home/a b", ["write 'data.dir=/home/a b' if it belongs"]),
    ("nonsense", ["nonsense", "expected KEY=VALUE"]),
    ("=3", ["=3", "the key is missing"]),
    ("' plan=true'", ["unexpected ' '", "the key without spaces"]),
    # Unknown keys.
    ("epochs=3", ["epochs=3", "did you mean train.epochs?"]),
    ("+epochs=3", ["epochs=3", "did you mean train.epochs?"]),
    ("learning_rate=0.1", ["did you mean optimizer.learning_rate?"]),
    ("optimizr=adam", ["did you mean optimizer?"]),
    ("optimiser.learning_rate=3", ["did you mean optimizer?"]),
    ("'train={epoch: 3}'", ["train={epoch: 3}", "did you mean train.epochs?"]),
    # Values that are none.
    ("data.dir=", ["data.dir=", "data.dir=null"]),
    ("tracking.uri=", ["tracking.uri=", "expected a text or null"]),
    ("train.epochs=", ["train.epochs=", "a whole number"]),
    ("train.epochs=null", ["train.epochs=null", "a whole number"]),
    ("tracking.experiment=null", ["tracking.experiment=null", "a text of 1 to 256"]),
    ("model.filters=ü", ["unexpected 'ü'", "'model.filters=\"ü\"'"]),
    ("hydra.mode=nonsense", ["hydra.mode=nonsense", "RUN or MULTIRUN"]),
    # Keys that are no text.
    ("+model={1:2}", ["model.1=2", "the name of a setting is a text"]),
    ("+train={true:{2:3}}", ["train.true={2: 3}", "the name of a setting is a text"]),
    ("train.early_stopping={1:2}", ["train.early_stopping.1=2", "the name of a setting is a text"]),
    ("'model.filters={tune: choice, values: [8], 1: 2}'", ["model.filters.1=2", "the name of a setting is a text"]),
]


@pytest.mark.parametrize(("line", "words"), MISMEANT)
def test_what_would_mean_something_else_is_refused_with_what_to_type(line: str, words: list[str], empty: Path) -> None:
    sentence = refuse(line, empty)
    assert [word for word in words if word not in sentence] == [], sentence


@pytest.mark.parametrize("group", list_groups())
def test_no_group_takes_a_list_of_options(group: str, empty: Path) -> None:
    first, last = list_options(group)[0], list_options(group)[-1]
    sentence = refuse(f"{group}=[{first},{last},{first}]", empty)
    assert f"{group} takes one option" in sentence
    assert f"{group}={first},{last}" in sentence or first == last


@pytest.mark.parametrize("sign", ["", "+"])
def test_a_list_of_options_in_a_defaults_list_is_refused(sign: str, empty: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "own.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optimizer: [adam, sgd]\n"
    )
    sentence = refuse(
        ["--config-dir", str(folder), f"{sign}experiment=own"][: 2 + (not sign)] + ["experiment=own"] * bool(sign),
        empty,
    )
    assert sentence.startswith("optimizer: a defaults list")


@pytest.mark.parametrize(
    "words",
    [
        *(("plan=true", "-m", "optimizer=adam,sgd"), ("plan=true", "optimizer=adam,sgd", "-m")),
        *(
            ("-m", "plan=true", "--config-dir", ".", "optimizer=adam,sgd"),
            ("--config-dir=.", "plan=true", "--multi", "optimizer=adam,sgd"),
        ),
        *(("plan=true", "-cd", ".", "optimizer=adam,sgd", "-m", "-m"), ("-m", "--", "plan=true", "optimizer=adam,sgd")),
        ("plan=true", "hydra.mode=MULTIRUN", "optimizer=adam,sgd"),
    ],
)
def test_overrides_stand_on_both_sides_of_a_flag(words: tuple[str, ...]) -> None:
    jobs = compose_jobs(words)
    assert [job.choices["optimizer"] for job in jobs] == ["adam", "sgd"]
    assert all(job.config.plan for job in jobs)


@pytest.mark.parametrize(
    "words",
    [
        *(
            ("optimizer=adam", "--cfg", "job", "--package", "optimizer"),
            ("--cfg", "job", "optimizer=adam", "-p", "optimizer"),
        ),
        *(("-p=optimizer", "-c=job", "optimizer=adam"), ("--package", "optimizer", "optimizer=adam", "--cfg=job")),
    ],
)
def test_a_question_to_hydra_is_answered_wherever_its_flags_stand(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = run_command(*words, cwd=tmp_path / "empty", environment=clean_environment())
    assert (ended.returncode, ended.stderr) == (ExitCode.DONE, "")
    assert "name: adam\n" in ended.stdout


@pytest.mark.parametrize(
    "words", [("--info", "plan=true"), ("optimizer=rmsprop,adam", "--help"), ("-m", "seed=1,2", "-h")]
)
def test_a_question_among_overrides_is_answered(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = run_command(*words, cwd=tmp_path / "empty", environment=clean_environment())
    assert (ended.returncode, ended.stderr) == (ExitCode.DONE, "")
    assert ended.stdout


PATHS = (
    *(
        "/home/ü",
        "/home/a b",
        "/home/a=b",
        "/home/a,b",
        "/home/a:b",
        "/home/(b)",
        "/home/$b",
        "~/b",
        "a~b",
        "2026",
        "007",
    ),
    *(
        "1e5",
        "true",
        "it's",
        'a"b',
        "/a#b",
        "/a;b",
        "/a&b",
        "/a{b}",
        "/a!b",
        "/a<b>",
        "photos(1)",
        "a [b] (c)",
        "[a]/b",
    ),
    *("/日本", "a^b", "a`b", "a*b?", "a%20b", "a@b", "+a", "-a", "a|b"),
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_understood_without_quotes(path: str) -> None:
    (job,) = compose_jobs([f"data.dir={path}"])
    assert job.config.data.dir == path
    assert job.overrides == (f"data.dir={path}",)


@pytest.mark.parametrize("key", sorted(list_text_keys() - {"search.name", "data.name"}))
def test_every_text_is_understood_without_quotes(key: str) -> None:
    section, _, name = key.partition(".")
    (job,) = compose_jobs(["executor=ray", f"{key}=größe (2)"])
    assert getattr(getattr(job.config, section), name) == "größe (2)"


def test_several_paths_of_a_multirun_are_understood_without_quotes() -> None:
    assert read("-m 'data.dir=/home/ü,/b,c (d),7'") == [
        *(("data.dir=/home/ü",), ("data.dir=/b",), ("data.dir=c (d)",), ("data.dir=7",)),
    ]


@pytest.mark.parametrize(
    "line", ["data.dir='\"a,b\"'", "data.dir=null", "'data.dir=${oc.env:FMNIST_DATA_DIR,x}'", "data.dir=plain/path"]
)
def test_what_hydra_reads_as_a_text_stays_as_it_was(line: str) -> None:
    assert read(line) == [tuple(shlex.split(line))]


def test_quotes_that_were_typed_keep_a_comma_in_a_path_of_a_multirun() -> None:
    assert read("""-m "data.dir='a,b',c" """) == [("data.dir='a,b'",), ("data.dir=c",)]


def test_the_name_of_an_option_needs_no_quotes_either(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "model"
    folder.mkdir(parents=True)
    for name in ("größe", "1"):
        (folder / f"{name}.yaml").write_text("builder: mlp\ndense_widths: [8]\n")
    jobs = compose_jobs(["--config-dir", str(folder.parent), "-m", "model=größe,1,cnn"])
    assert [job.choices["model"] for job in jobs] == ["größe", "1", "cnn"]


def test_a_section_may_be_given_several_keys_at_once() -> None:
    assert compose_jobs(["train={epochs: 3, batch_size: 64}"])[0].config.settings["train"]["epochs"] == 3


@pytest.mark.parametrize("flags", [(), ("-m",)])
def test_the_last_override_of_a_key_counts_also_where_it_was_typed_before(flags: tuple[str, ...]) -> None:
    (job,) = compose_jobs([*flags, "train.epochs=4", "train.epochs=2", "train.epochs=4"])
    assert job.config.settings["train"]["epochs"] == 4
    (job,) = compose_jobs([*flags, "optimizer=adam", "optimizer=sgd", "optimizer=adam"])
    assert job.config.settings["optimizer"]["name"] == "adam"


def test_no_recipe_is_chosen_with_null() -> None:
    assert read("experiment=null") == [("experiment=null",)]


def test_nothing_that_varies_is_one_study() -> None:
    assert len(compose_jobs(["-m", "optimizer=adam"])) == len(compose_jobs(["-m"])) == 1


def test_what_stands_for_a_tunable_in_one_study_is_no_override_of_another() -> None:
    line = "-m 'model.filters={tune: choice, values: [8, 16]},64'"
    assert read(line) == [("model.filters={tune:choice,values:[8,16]}",), ("model.filters=64",)]


DIGITS = "7" * 400
NUMBERS = (
    "seed",
    "train.epochs",
    "optimizer.learning_rate",
    "regularization.dropout",
    "search.max_minutes",
    "model.filters",
)


@pytest.mark.parametrize("digits", [DIGITS, DIGITS * 20])
@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_of_any_length_is_quoted_in_part(key: str, digits: str, empty: Path) -> None:
    sentence = refuse([f"{key}={digits}"], empty)
    assert f"{key}=77777" in sentence
    assert len(sentence) < 700


@pytest.mark.parametrize("begin", ["", "+", "model.", "+model.", "model=", "experiment=", "--", "-", "--config-dir="])
def test_a_name_of_any_length_is_quoted_in_part(begin: str, empty: Path) -> None:
    sentence = refuse([f"{begin}{'k' * 300}{'=3' * ('=' not in begin)}"], empty)
    assert f"{begin}kkkkk" in sentence.replace("+k", "+k") or "kkkkk" in sentence
    assert len(sentence) < 700


@pytest.mark.parametrize(
    "word", ["data.dir=/tmp/\udcff", "tracking.experiment=a\udcf3b", "--\udcff", "model=\udcff", "\udcff"]
)
def test_bytes_that_are_no_text_are_refused(word: str, empty: Path) -> None:
    sentence = refuse([word], empty)
    assert "no text in UTF-8" in sentence
    sentence.encode()


@pytest.mark.parametrize(
    ("override", "words"), [("executor=[local,ray]", "give one value"), ("executor.workers=1,2", "give one value")]
)
def test_a_verb_refuses_the_same_overrides_without_naming_another_command(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose_job([override])


@pytest.mark.parametrize("line", ["optimizer=[adam,sgd]", "plan=true -mplan=true", "--epochs 3", "+model={1:2}"])
def test_the_command_itself_ends_with_the_code_of_a_config_error(line: str, empty: Path) -> None:
    ended = run_command(*shlex.split(line), cwd=empty, environment=clean_environment())
    assert ended.returncode == ExitCode.CONFIG
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert list(empty.iterdir()) == []
