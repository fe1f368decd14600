"""Trials that a test steers from outside: they wait where it is to strike, do harm, or have had their time.

What a test does to a sweep under way must not depend on which of the two is quicker: on a loaded machine either may
stand still for half a minute. So the trials wait, after an epoch that the test names, until it lets them go on or the
sweep is asked to end; and whether a trial has had its minutes is decided by a clock that the test sets forwards.

`Steering(folder)` is the test's end: what it says holds at once in every process that has its `environment`. Forks of
the zygote change themselves by `steer`; in fresh interpreters (a command, a worker, one of
Ray's) tests/support/broken/sitecustomize.py does, which Python imports of itself. Imported there before everything
else: no import at the top that takes long.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_FILE, _HARM = "STEERED", "STEERED_HARM"
_SITE = Path(__file__).with_name("broken")


class Steering:
    """What the trials of a sweep do. environment: what the sweep's command, or Ray's nodes, need in theirs.

    harm: by the number of filters of a trial, what it does after its first epoch: "dies": its process kills itself;
    "hangs": it never comes back.
    """

    def __init__(self, folder: Path, harm: Mapping[int, str] | None = None) -> None:
        self._file = folder / "steering.json"
        self._rules: dict[str, Any] = {}
        self.environment = {
            "PYTHONPATH": os.pathsep.join((str(_SITE), str(_SITE.parents[2]))),
            _FILE: str(self._file),
            _HARM: json.dumps(harm or {}),
        }

    def hold(self, epoch: int, *trials: str, stuck: bool = False) -> None:
        """Let trials wait after this epoch and later ones, until `release` or until they are asked to end.

        epoch: 0 for before the first. trials: ids ("0001", or "2/0001" in the second study); none: all. stuck: they do
        not heed being asked to end.
        """
        self._write(epoch=epoch, trials=trials, stuck=stuck)

    def release(self) -> None:
        """Let all trials go on."""
        self._write(epoch=None)

    def let_pass(self, minutes: float) -> None:
        """Let the minutes that trials may take pass at once."""
        self._write(later=60 * minutes)

    def _write(self, **rules: Any) -> None:
        self._rules |= rules
        aside = self._file.with_suffix(".aside")
        aside.write_text(json.dumps(self._rules))
        aside.replace(self._file)


# What follows runs in the processes that are steered.


def is_steered() -> bool:
    return _FILE in os.environ


def steer() -> None:
    """Change what is imported here already."""
    for name, change in CHANGES.items():
        change(sys.modules[name])


def _read_rules() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(os.environ[_FILE]).read_text())
    except FileNotFoundError:
        return {}
    return found


def _steer_trials(module: ModuleType) -> None:
    run_trial = module.run_trial
    harm: dict[str, str] = json.loads(os.environ[_HARM])

    def run_steered(spec: Any, splits: Any, is_stopping: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        def pause(epoch: int) -> None:
            if epoch > 0:
                _do_harm(harm.get(str(spec.config["model"]["filters"])))
            while _is_held(spec.trial_id, epoch, is_stopping):
                time.sleep(0.01)

        pause(0 if spec.resume is None else len(module.read_checkpoint_history(spec.resume)))
        for event in run_trial(spec, splits, is_stopping):
            yield event
            if hasattr(event, "epoch") and not event.last:
                pause(event.epoch)

    module.run_trial = run_steered  # type: ignore[attr-defined]


def _do_harm(what: str | None) -> None:
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "hangs":
        time.sleep(10_000)


def _is_held(trial_id: str, epoch: int, is_stopping: Callable[[], bool]) -> bool:
    rules = _read_rules()
    if rules.get("epoch") is None or epoch < rules["epoch"]:
        return False
    is_named = not rules["trials"] or trial_id in rules["trials"] or trial_id.rpartition("/")[2] in rules["trials"]
    return is_named and (rules["stuck"] or not is_stopping())


def _steer_limits(module: ModuleType) -> None:
    is_overdue = module.LiveTrial.is_overdue

    def is_overdue_later(self: Any, minutes: float, now: float) -> bool:
        return bool(is_overdue(self, minutes, now + _read_rules().get("later", 0.0)))

    module.LiveTrial.is_overdue = is_overdue_later


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "fmnist_sweep.training.trial": _steer_trials,
    "fmnist_sweep.sweep.live_trial": _steer_limits,
}
