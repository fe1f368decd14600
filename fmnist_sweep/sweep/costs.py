"""The cost of a plan: each workload is timed once, and each study's share is forecast from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.config.identity import hash_content
from fmnist_sweep.search.ask_and_tell import estimate_epochs
from fmnist_sweep.sweep.forecast import Forecast, StudyWork, forecast_study, sum_forecasts
from fmnist_sweep.sweep.plan import PlannedStudy
from fmnist_sweep.training.probe import TrainingCost, measure_training_cost

if TYPE_CHECKING:
    from fmnist_sweep.executors.local import LocalExecutor


def hash_workload(planned: PlannedStudy) -> str:
    """Name what decides a study's time per epoch: models, batches and images. Studies that share it are timed once.

    Optimizers and seeds make little difference, and are left out.
    """
    settings = planned.study.settings
    return hash_content(
        [*(settings[section] for section in ("model", "regularization", "train")), planned.splits.sha256]
    )


def measure_in_process(plan: Sequence[PlannedStudy]) -> Mapping[str, TrainingCost]:
    """Time each workload of a plan in this process; by `hash_workload`."""
    return _measure_each_workload(plan, lambda planned: measure_training_cost(planned.study.settings, planned.splits))


def measure_in_workers(plan: Sequence[PlannedStudy], executor: LocalExecutor) -> Mapping[str, TrainingCost]:
    """Time each workload of a plan in all workers at once; by `hash_workload`."""
    return _measure_each_workload(plan, lambda planned: _measure_study_in_workers(executor, planned))


def _measure_study_in_workers(executor: LocalExecutor, planned: PlannedStudy) -> TrainingCost:
    """The mean time of an epoch and the longest start among the workers."""
    costs = executor.measure(planned.study.settings, planned.config.data)
    mean_epoch_seconds = sum(cost.epoch_seconds for cost in costs) / len(costs)
    return TrainingCost(mean_epoch_seconds, costs[0].parameters, max(cost.start_seconds for cost in costs))


def _measure_each_workload(
    plan: Sequence[PlannedStudy], measure: Callable[[PlannedStudy], TrainingCost]
) -> Mapping[str, TrainingCost]:
    costs: dict[str, TrainingCost] = {}
    for planned in plan:
        if not planned.is_done and hash_workload(planned) not in costs:
            costs[hash_workload(planned)] = measure(planned)
    return costs


def forecast_plan(plan: Sequence[PlannedStudy], costs: Mapping[str, TrainingCost], slots: int) -> Forecast:
    """Forecast what is left of a plan with `slots` trials at once. costs: of each workload, by `hash_workload`."""
    forecasts = [
        forecast_study(costs[hash_workload(planned)], _describe_work(planned, slots))
        for planned in plan
        if not planned.is_done
    ]
    return sum_forecasts(forecasts, slots)


def _describe_work(planned: PlannedStudy, slots: int) -> StudyWork:
    config = planned.config
    minutes_spent = 0.0 if planned.record is None else planned.record.seconds / 60
    max_minutes = config.search.max_minutes
    return StudyWork(
        search_name=config.search.name,
        oracle=config.oracle,
        settings=planned.study.settings,
        trials=planned.ended_count + planned.trials_left,
        ended_trials=planned.ended_count,
        max_minutes=None if max_minutes is None else max(0.0, max_minutes - minutes_spent),
        keep_models=config.tracking.keep_models,
        validation_images=len(planned.splits.validation.labels),
        slots=min(slots, config.search.lookahead or slots),
    )


def estimate_epochs_left(planned: PlannedStudy) -> float:
    """About how many epochs a study still has to train. The screen makes the time left of it."""
    config = planned.config
    return estimate_epochs(config.search.name, config.oracle, planned.study.settings, planned.trials_left)
