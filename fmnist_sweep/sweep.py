"""One command's sweep: plan its studies, run them one after the other, roll up what came of them."""

from __future__ import annotations

import gc
import json
import math
import os
import secrets
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fmnist_sweep import executors, report, search, space, tracking, trial
from fmnist_sweep import store as stores
from fmnist_sweep import study as studies
from fmnist_sweep.data import Splits, load
from fmnist_sweep.errors import ConfigError, ExitCode
from fmnist_sweep.executors import Executor
from fmnist_sweep.report import TrialRecord
from fmnist_sweep.store import Store
from fmnist_sweep.study import Job, Study
from fmnist_sweep.supervisor import Planned, Supervisor, Sweep, source_commit
from fmnist_sweep.terminal import View, duration, trials_text

ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def run_sweep(jobs: Sequence[Job], command: str, view: View) -> ExitCode:
    """Run every job as a study of one sweep, and say how it ended."""
    config = jobs[0].config
    _refuse_several_stores(jobs)
    plan = _plan(jobs, view)
    _announce(plan, view)
    if config.plan:
        return ExitCode.DONE
    store = stores.connect(config.tracking.uri, config.tracking.experiment)
    # Memory is collected between trials; what is imported by now stays and need not be looked through each time.
    gc.freeze()
    opened: list[str] = []
    try:
        with executors.make(config.executor) as executor:
            sweep = _open(plan, store, executor, view, command, opened)
            for number, planned in enumerate(plan, 1):
                _run_study(sweep, planned, number, len(plan))
            return _close(sweep, plan)
    except BaseException as error:
        with signals_ignored():  # a second Ctrl-C must not leave a run open
            if isinstance(error, KeyboardInterrupt):
                view.say("Interrupted: closing what was running.", "bold")
            tracking.kill(store, reversed(opened))
        if isinstance(error, KeyboardInterrupt):
            return ExitCode.INTERRUPTED
        raise


def _refuse_several_stores(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if (job.config.tracking, job.config.executor) == (jobs[0].config.tracking, jobs[0].config.executor):
            continue
        own = [override for override in job.overrides if override.startswith(("tracking", "executor"))]
        raise ConfigError(
            f"{' '.join(own)} (command line): tracking and executor are one for a whole sweep; "
            "give each a single value."
        )


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Let nothing but SIGKILL end the process for as long as this takes."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end a sweep as Ctrl-C does, with its runs closed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # One that is ignored already (nohup) stays ignored.
    before = {number: signal.getsignal(number) for number in ENDINGS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _plan(jobs: Sequence[Job], view: View) -> list[Planned]:
    """Every study with its data, identity and number of trials; nothing is created.

    What a user can get wrong is looked at first, and TensorFlow imported after, so that a mistake is told at once.
    """
    found: dict[str, tuple[Study, Splits]] = {}
    for job, label in zip(jobs, studies.labels(jobs), strict=True):
        train = job.config.settings["train"]
        settings = {**job.config.settings, "train": {**train, "precision": trial.resolve_precision(train["precision"])}}
        _refuse_endless(job, settings)
        splits = load(job.config.data)
        study = studies.name_by_content(job, label, settings, splits.sha256)
        known = found.setdefault(study.id, (study, splits))[0]
        if known is not study:
            view.say(f"{label} is the same study as {known.label}: it is run once", "yellow")
            if _budget(study) > _budget(known):
                found[study.id] = (study, splits)
    view.say("starting TensorFlow ...")
    trial.import_tensorflow()
    return [Planned(study, splits, _trials(study)) for study, splits in found.values()]


def _budget(study: Study) -> float:
    most = study.job.config.search.max_trials
    return math.inf if most is None else most


def _refuse_endless(job: Job, settings: Mapping[str, Any]) -> None:
    config = job.config
    hopeless = search.refuse_hopeless(config.search.name, config.oracle, settings)
    if hopeless:
        raise ConfigError(f"search={config.search.name}: {hopeless}.")
    budgets = (config.search.max_trials, config.search.max_minutes)
    if budgets == (None, None) and config.search.name in ("random", "bayesian") and math.isinf(space.size(settings)):
        raise ConfigError(
            "search.max_trials=null: a tunable is continuous, so the search would never end; give search.max_trials "
            "or search.max_minutes."
        )


def _trials(study: Study) -> float:
    config = study.job.config
    trials = search.most_trials(config.search.name, config.oracle, study.settings)
    return min(trials, _budget(study))


def _announce(plan: Sequence[Planned], view: View) -> None:
    for banner in dict.fromkeys(planned.banner for planned in plan if planned.splits.origin.fallback_reason):
        view.say(banner or "", "bold yellow")
    for splits in {planned.splits.sha256: planned.splits for planned in plan}.values():
        view.say(
            f"data: {splits.tag} from {splits.origin.location}; {len(splits.train.labels)} train, "
            f"{len(splits.validation.labels)} validation images"
        )
        if splits.origin.source != "drawn" and not splits.origin.canonical:
            view.say("  by checksum these are not the canonical Fashion-MNIST images", "yellow")
    for planned in plan:
        study, budget = planned.study, planned.study.job.config.search.max_trials
        tuned = ", ".join(study.tuned) or "nothing"
        trials = trials_text(planned.trials)
        view.say(f"study {study.id} {study.label}: {trials}, tuning {tuned}; {study.settings['train']['precision']}")
        if budget is not None and budget > planned.trials and study.tuned:
            view.say(
                f"  the space holds only {planned.trials:.0f} different trials, fewer than search.max_trials={budget}: "
                "all of them will be run",
                "yellow",
            )


def _open(
    plan: Sequence[Planned], store: Store, executor: Executor, view: View, command: str, opened: list[str]
) -> Sweep:
    sweep_id = secrets.token_hex(6)
    labels = " | ".join(planned.study.label for planned in plan)
    info = tracking.RunInfo(
        kind="sweep",
        name=f"{max(planned.mark for planned in plan)}sweep · {labels}"[:250],
        tags={"sweep_id": sweep_id, "data": _data_tag(plan), "git": source_commit(), **tracking.environment()},
        command=command,
    )
    run_id = tracking.start_run(store, info, {}, opened)
    for splits in {planned.splits.sha256: planned.splits for planned in plan}.values():
        tracking.log_data(store, run_id, splits)
    view.begin(sum(_epochs(planned) for planned in plan))
    return Sweep(sweep_id, command, run_id, store, executor, view, open_runs=opened)


def _data_tag(plan: Sequence[Planned]) -> str:
    return ", ".join(dict.fromkeys(planned.splits.tag for planned in plan))


def _epochs(planned: Planned) -> float:
    config = planned.study.job.config
    return search.planned_epochs(config.search.name, config.oracle, planned.study.settings, planned.trials)


def _run_study(sweep: Sweep, planned: Planned, number: int, of: int) -> None:
    study = planned.study
    sweep.view.study(study.label, number, of, planned.trials)
    info = tracking.RunInfo(
        kind="study",
        name=f"{planned.mark}study · {study.label}"[:250],
        tags={
            "sweep_id": sweep.id,
            "study_id": study.id,
            "data": planned.splits.tag,
            "precision": study.settings["train"]["precision"],
            "git": source_commit(),
            "identity": json.dumps(study.identity, sort_keys=True)[:5000],
        },
        command=sweep.command,
        parent=sweep.run_id,
    )
    config = study.job.config
    params = {
        **studies.flat(study.settings),
        **{f"search.{key}": value for key, value in _search(config).items()},
    }
    run_id = tracking.start_run(sweep.store, info, params, sweep.open_runs)
    tracking.log_data(sweep.store, run_id, planned.splits)
    supervisor = Supervisor(sweep, planned, run_id)
    supervisor.run()
    records = supervisor.records
    sweep.records += records
    sweep.view.leaderboard(f"{study.label}: {trials_text(len(records))}", records)
    failed_all = bool(records) and report.best(records) is None
    title = f"Study {study.label}"
    searched = f"Searched {', '.join(study.tuned) or 'nothing'} with {config.search.name}."
    if config.search.objective != "val_accuracy":
        searched += f" The search went by {config.search.objective}; the ranking is by validation accuracy."
    _close_parent(sweep, run_id, title, planned.banner, records, searched, "FAILED" if failed_all else "FINISHED")


def _search(config: Any) -> dict[str, Any]:
    return {**config.search.model_dump(), **config.oracle}


def _close_parent(
    sweep: Sweep,
    run_id: str,
    title: str,
    banner: str | None,
    records: Sequence[TrialRecord],
    searched: str,
    status: str,
) -> None:
    """Roll the best trial up to its study or sweep: metrics, tags, figures, leaderboard, report, description."""
    winner = report.best(records)
    files = {
        "leaderboard.csv": report.leaderboard(records).to_csv(index=False).encode(),
        "report.html": report.page(title, banner, records, sweep.command).encode(),
    }
    more = [searched, f"Command: `{sweep.command}`"]
    tags = {"mlflow.note.content": report.note(title, banner, records, more)}
    metrics = report.counts(records)
    if winner is not None and winner.best_val_accuracy is not None:
        files |= {f"best/{name}": content for name, content in winner.artifacts.items() if name != "predictions.npz"}
        tags |= {
            "best_trial": winner.trial_id,
            "fmnist.best_run": winner.run_id,
            "fmnist.best_name": winner.name,
        }
        metrics["best_val_accuracy"] = winner.best_val_accuracy
    tracking.close(sweep.store, run_id, status=status, metrics=metrics, tags=tags, files=files)
    sweep.open_runs.remove(run_id)


def _close(sweep: Sweep, plan: Sequence[Planned]) -> ExitCode:
    """Close the sweep's run, show the leaderboard across studies, and say what to do next."""
    failed = [record for record in sweep.records if record.state == "failed"]
    ended = _ending(sweep, plan)
    title = "Sweep " + " | ".join(planned.study.label for planned in plan)
    status = "FAILED" if ended is ExitCode.ALL_FAILED else "FINISHED"
    begun = trials_text(len(sweep.records))
    searched = f"{len(plan)} {'study' if len(plan) == 1 else 'studies'}, {begun}, {len(failed)} failed."
    banner = next((planned.banner for planned in plan if planned.banner), None)
    _close_parent(sweep, sweep.run_id, title, banner, sweep.records, searched, status)
    view = sweep.view
    if len(plan) > 1:
        view.leaderboard(f"sweep: {begun} of {len(plan)} studies", sweep.records)
    spent = sum(record.fit_seconds or 0 for record in sweep.records)
    view.say(f"{begun}, {duration(spent)} of training, {len(failed)} failed.")
    view.say(f"store: {studies.masked(sweep.store.uri)} (experiment {sweep.store.experiment_name})")
    _say_what_next(sweep, plan)
    return ended


def _say_what_next(sweep: Sweep, plan: Sequence[Planned]) -> None:
    view, uri = sweep.view, sweep.store.uri
    named = {
        "--uri": None if uri == stores.default_uri() else studies.masked(uri),
        "--experiment": None if sweep.store.experiment_name == "fashion-mnist" else sweep.store.experiment_name,
    }
    folder = plan[0].study.job.config.data.dir
    data = {"--data-dir": None if folder == os.environ.get("FMNIST_DATA_DIR") else folder}
    view.say(f"browse: {studies.masked(uri)}" if uri.startswith("http") else f"browse: fmnist-sweep ui{_flags(named)}")
    if all(planned.splits.origin.source == "drawn" for planned in plan):
        view.say("drawn images: nothing of this sweep can be promoted.")
    elif report.best(sweep.records):
        view.say(f"promote the best: fmnist-sweep promote{_flags(named | data)}")


def _flags(values: Mapping[str, str | None]) -> str:
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in values.items() if value is not None)


def _ending(sweep: Sweep, plan: Sequence[Planned]) -> ExitCode:
    states: dict[str, list[str]] = {planned.study.id: [] for planned in plan}
    for record in sweep.records:
        states[record.study_id].append(record.state)
    if any(found and set(found) == {"failed"} for found in states.values()):
        return ExitCode.ALL_FAILED
    return ExitCode.SOME_FAILED if any("failed" in found for found in states.values()) else ExitCode.DONE
