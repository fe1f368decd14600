"""Sentences of the looks: their plan, what each saw, and why a finalist was dropped or the training ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmnist_sweep.promotion.gate_text import format_points
from fmnist_sweep.text import format_duration

if TYPE_CHECKING:
    from fmnist_sweep.promotion.foresight import Foresight
    from fmnist_sweep.promotion.look_journal import RecordedLook
    from fmnist_sweep.promotion.looks import LookRule, Outlook


def describe_plan(rule: LookRule, champion_seeds: int, equal: Foresight, gain: Foresight, seconds: float | None) -> str:
    """Describe when looks are taken, and what is expected of them.

    champion_seeds: that the champion has already. seconds: of a training, None if unknown.
    """

    def cost(trainings: float) -> str:
        return f"{trainings:.0f}" + ("" if seconds is None else f" ({format_duration(trainings * seconds)})")

    *first, last = map(str, rule.looks)
    looks = f"{', '.join(first)} and {last}" if first else last
    most = rule.comparisons * rule.most + max(0, rule.most - champion_seeds)
    return (
        f"Seeds are trained in groups, and a look at the validation images after {looks} of them only ever ends the "
        f"training early. At most {cost(most)} trainings; expected {cost(equal.trainings)} if no finalist is better, "
        f"and {cost(gain.trainings)} if one gains {format_points(rule.gain)}, which is found with a probability of "
        f"{gain.chance:.0%}. promote.seeds={rule.most} trains all of them without a look."
    )


def describe_look(recorded: RecordedLook) -> list[str]:
    """Describe what a look saw, a line for each finalist, and what it decided."""
    look = recorded.look
    lines = []
    for name, outlook in zip(recorded.names, look.outlooks, strict=True):
        side = "ahead of" if outlook.gain >= 0 else "behind"
        outcome = "goes on" if outlook.fate == "goes on" else describe_drop(name, outlook, look.seeds)
        lines.append(
            f"look after {look.seeds} seeds: {name} is {100 * abs(outlook.gain):.2f} ± {100 * outlook.se:.2f} points "
            f"{side} the champion on the validation images; {outcome}"
        )
    if look.is_enough:
        lines.append(
            f"look after {look.seeds} seeds: enough, the test on the test images will pass with a probability of "
            f"{max(outlook.chance_now for outlook in look.outlooks):.0%}"
        )
    return lines


def describe_drop(name: str, outlook: Outlook, seeds: int) -> str:
    """Describe why a look dropped a finalist."""
    if outlook.fate == "beaten":
        return (
            f"{name} is out after {seeds} seeds: it would end as the best finalist with a probability of "
            f"{outlook.chance_best:.0%}."
        )
    return (
        f"{name} is out after {seeds} seeds: with all seeds it would pass the test on the test images with a "
        f"probability of {outlook.chance:.0%}."
    )
