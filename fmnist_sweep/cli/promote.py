"""The verb `promote`: make the best trial of a sweep the champion, if the evidence allows it."""

from __future__ import annotations

import sys

import click

from fmnist_sweep.cli.options import DATA_DIR, EXPERIMENT, PLUGINS, URI, refuse_replaced, refuse_together
from fmnist_sweep.config.overrides import parse_override_key
from fmnist_sweep.errors import ConfigError, ExitCode


@click.command()
@click.argument("overrides", nargs=-1)
@URI
@EXPERIMENT
@click.option("--run", "run_id", default=None, help="Promote this trial's run.")
@click.option("--study", "study_id", default=None, help="Promote the best trial of this study.")
@click.option("--sweep", "sweep_id", default=None, help="Promote the best trial of this sweep; default: the latest.")
@click.option(
    "--within",
    "within",
    multiple=True,
    metavar="KEY=NUMBER",
    help="Promote the best of what costs no more; KEY: parameters, bytes (of the model's file) or milliseconds (an "
    "image, on one core). May be given several times.",
)
@DATA_DIR
@PLUGINS
@click.option("--any-data", is_flag=True, help="Accept training files that by checksum are not the canonical ones.")
@click.option("--open-again", is_flag=True, help="Open the test images a second time for the same decision.")
def promote(
    overrides: tuple[str, ...],
    uri: str | None,
    experiment: str,
    run_id: str | None,
    study_id: str | None,
    sweep_id: str | None,
    within: tuple[str, ...],
    data_dir: str | None,
    plugins: tuple[str, ...],
    any_data: bool,
    open_again: bool,
) -> None:
    """Make the best configuration models:/fashion-mnist@champion, if the evidence allows it.

    The best trial and those as good as it are trained again with fresh seeds. Then the test images are opened, once,
    and the finalists are compared with the champion. The same command continues an interrupted promotion.

    OVERRIDES say how: promote.finalists=3 promote.seeds=5 promote.include_validation=true executor=local
    executor.workers=4 plan=true. Exit codes: 0 it is champion, 9 it is challenger (the evidence cannot tell whether it
    is better), 8 it is worse or was refused.
    """
    from fmnist_sweep.analysis.fronts import parse_cost_limits
    from fmnist_sweep.config.commands import build_verb_command
    from fmnist_sweep.config.compose import compose_job
    from fmnist_sweep.interrupts import Stop, route_signals
    from fmnist_sweep.promotion.candidates import PromotionTarget
    from fmnist_sweep.promotion.pipeline import run_promotion
    from fmnist_sweep.promotion.preparation import PromotionRequest
    from fmnist_sweep.report.terminal import open_view
    from fmnist_sweep.tracking.deleted import name_deleted_runs
    from fmnist_sweep.tracking.store import open_existing_store
    from fmnist_sweep.training.own_code import activate_typed

    activate_typed(plugins)
    refuse_together(run=run_id, study=study_id, sweep=sweep_id)
    refuse_other_overrides(overrides)
    limits = parse_cost_limits(within)
    base = compose_job(["search=grid", *overrides]).config
    store = open_existing_store(uri, experiment)
    name_deleted_runs(store)
    command = build_verb_command(sys.argv[1:])
    request = PromotionRequest(
        PromotionTarget(run_id, study_id, sweep_id, limits), base, data_dir, any_data, open_again, command
    )
    with open_view() as screen:
        stop = Stop(screen.say)
        with route_signals(stop):
            try:
                outcome = run_promotion(store, request, screen, stop)
            except KeyboardInterrupt:
                screen.say(f"Interrupted. The same command continues: {command}")
                sys.exit(ExitCode.INTERRUPTED)
        for line in outcome.lines:
            screen.say(line)
    sys.exit(outcome.code)


_ALLOWED_GROUPS = ("promote", "executor", "checkpoint", "plan")


def refuse_other_overrides(overrides: tuple[str, ...]) -> None:
    """Raise ConfigError for an override that a promotion does not take."""
    refuse_replaced(
        overrides, {"tracking.uri": "--uri", "tracking.experiment": "--experiment", "data.dir": "--data-dir"}
    )
    for override in overrides:
        if "=" not in override or parse_override_key(override).split(".")[0] not in _ALLOWED_GROUPS:
            raise ConfigError(
                f"{override}: finalists are trained exactly as their trials were; expected overrides of "
                f"{', '.join(_ALLOWED_GROUPS)}, such as promote.seeds=5 or executor.workers=2."
            )
