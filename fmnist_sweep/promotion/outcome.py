"""How a promotion ends: an exit code, the lines to print, and what they say about the registry's aliases."""

from __future__ import annotations

from dataclasses import dataclass

from fmnist_sweep.errors import ExitCode, Locked


@dataclass(frozen=True)
class Outcome:
    """The end of a promotion.

    code: exit code of the command. lines: to print. version: the version that the decision registered, now or earlier;
    None if there is none.
    """

    code: ExitCode
    lines: tuple[str, ...] = ()
    version: str | None = None


def describe_alias(model: str, alias: str, number: str, previous: str | None) -> str:
    """Describe the version that an alias points at. previous: the version it pointed at before, None for nothing.

    model: name of the registered model.
    """
    address = f"models:/{model}@{alias}"
    if previous == number:
        return f"{address} is still version {number}"
    return f"{address} is now version {number} (before: {f'version {previous}' if previous else 'nothing'})"


def make_unchanged_outcome(code: ExitCode, model: str, alias: str, number: str, reason: str) -> Outcome:
    """The outcome of a promotion that leaves an alias at the version where it is. reason: a sentence, to print."""
    return Outcome(code, (describe_alias(model, alias, number, number), f"  {reason}"), number)


def refuse_changed_champion(judged: str, current: str) -> None:
    """Raise Locked if the current champion is not the one that finalists were judged against; both as numbers."""
    if judged != current:
        raise Locked(
            "another command changed the champion meanwhile: type the command again; all trainings and scores are kept."
        )
