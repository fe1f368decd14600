"""Evidence of a promotion: as JSON for programs, and as values for the page and the version's description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fmnist_sweep.promotion.champion import get_champion_number
from fmnist_sweep.promotion.cost import NO_COST, PromotionCost
from fmnist_sweep.promotion.early_stop import CorrectedGain
from fmnist_sweep.promotion.look_text import describe_look
from fmnist_sweep.promotion.opening import collect_opening_names
from fmnist_sweep.report.promotion_page import (
    FreshTraining,
    PromotionDecision,
    StandingRow,
    draw_promotion_pictures,
    format_version_description,
    render_promotion_page,
)
from fmnist_sweep.text import format_mean
from fmnist_sweep.tracking.names import COMMAND_TAG, NAME_TAG, PROMOTION_TAG

if TYPE_CHECKING:
    from fmnist_sweep.promotion.candidates import Candidates
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.confirmation import Confirmations
    from fmnist_sweep.promotion.gate import Assessment, GateJudgement
    from fmnist_sweep.promotion.look_journal import RecordedLook


@dataclass(frozen=True)
class Dossier:
    """Evidence about some finalists and the champion they were judged against.

    finalists: in the order of the judgement's standings.
    rule: thresholds of the gate, as JSON. remarks: sentences on what else a reader should know.
    account: sentences on what the decision spends of the account of the test images, and what is left.
    looks: at the validation images, while the finalists were trained. cost: of all trainings, dropped finalists too.
    corrected: the winner's gain after an early stop.
    """

    decision: str
    command: str
    candidates: Candidates
    finalists: Sequence[Confirmations]
    champion: Champion | None
    champion_confirmations: Confirmations | None
    judgement: GateJudgement
    rule: str
    remarks: Sequence[str] = ()
    account: Sequence[str] = ()
    looks: Sequence[RecordedLook] = ()
    cost: PromotionCost = NO_COST
    corrected: CorrectedGain | None = None

    @property
    def openings(self) -> tuple[str, ...]:
        """Names of the openings of the test images for these finalists."""
        return tuple(sorted(collect_opening_names(self.finalists)))

    @property
    def winner(self) -> Confirmations:
        return self.finalists[self.judgement.winner]

    @property
    def champion_number(self) -> str:
        """Number of the version that was champion, or `nobody`."""
        return get_champion_number(self.champion)

    @property
    def folder(self) -> str:
        """Folder of the evidence among the artifacts of the promotion's run."""
        # Another opening leads to another judgement; the evidence of the one before stays.
        suffix = f"-opening-{len(self.openings)}" if len(self.openings) > 1 else ""
        return f"promotion/{self.decision}/against-{self.champion_number}{suffix}"

    @property
    def reason(self) -> str:
        return self.judgement.reasons[-1]

    def as_dict(self, version_tags: Mapping[str, Any] | None) -> dict[str, Any]:
        """The evidence as plain values. version_tags: tags of the registered version, None if there is none."""
        return {
            "decision": self.decision,
            "command": self.command,
            "verdict": self.judgement.verdict,
            "why": self.reason,
            "candidates": {
                "rivals": self.candidates.rival_count,
                "tied_with_best": self.candidates.tie_count,
                "finalists": [trial.run_id for trial in self.candidates.finalists],
            },
            "test_openings": list(self.openings),
            "rule": json.loads(self.rule),
            "remarks": list(self.remarks),
            "account": list(self.account),
            "corrected_gain": None if self.corrected is None else asdict(self.corrected),
            "cost": asdict(self.cost),
            "looks": [recorded.as_body() for recorded in self.looks],
            "finalists": [_list_confirmations(confirmations) for confirmations in self.finalists],
            "champion": None
            if self.champion is None or self.champion_confirmations is None
            else {"version": self.champion.number, **_list_confirmations(self.champion_confirmations)},
            "judgement": self.judgement.as_dict(),
            "registered": None if version_tags is None else dict(version_tags),
        }

    def render_files(self, version_tags: Mapping[str, Any] | None) -> dict[str, bytes]:
        """Artifacts of the promotion's run by their paths: JSON, a page and its pictures."""
        decision = self.describe_decision()
        pictures = draw_promotion_pictures(decision)
        page = render_promotion_page(decision, version_tags, pictures)
        document = json.dumps(self.as_dict(version_tags), indent=1).encode()
        files = {"evidence.json": document, "evidence.html": page.encode(), **pictures}
        return {f"{self.folder}/{name}": content for name, content in files.items()}

    def format_description(self, version_tags: Mapping[str, Any]) -> str:
        """Description in Markdown of the version with these tags."""
        return format_version_description(
            self.describe_decision(),
            name=version_tags[NAME_TAG],
            command=version_tags[COMMAND_TAG],
            evidence=f"`{self.folder}/evidence.html` of run {version_tags[PROMOTION_TAG]}",
        )

    def describe_decision(self) -> PromotionDecision:
        """The decision as plain values, as the page and the description show it."""
        judgement = self.judgement
        champion = None
        if judgement.champion is not None and self.champion_confirmations is not None:
            champion = _make_standing_row(judgement.champion, self.champion_confirmations)
        return PromotionDecision(
            verdict=judgement.verdict,
            command=self.command,
            reasons=judgement.reasons,
            remarks=self.remarks,
            rule=judgement.rule_text,
            openings=self.openings,
            standings=[
                _make_standing_row(standing, confirmations)
                for standing, confirmations in zip(judgement.standings, self.finalists, strict=True)
            ],
            champion=champion,
            why=self.reason,
            cost=self.cost.text,
            correction="" if self.corrected is None else self.corrected.text,
            looks=[line for recorded in self.looks for line in describe_look(recorded)],
            account=self.account,
            trainings=[
                FreshTraining(
                    confirmations.configuration.name,
                    run.params["seed"],
                    run.metrics.get("best_val_accuracy"),
                    run.metrics.get("test_accuracy"),
                    run.run_id,
                )
                for confirmations in self.finalists
                for run in confirmations.scored_runs
            ],
        )


def _make_standing_row(standing: Assessment, confirmations: Confirmations) -> StandingRow:
    accuracy = standing.accuracy
    return StandingRow(
        name=standing.name,
        accuracy=format_mean(accuracy.mean, accuracy.sd, accuracy.n),
        gain=standing.gain_text,
        objections=standing.objections,
        test_accuracies=[run.metrics["test_accuracy"] for run in confirmations.scored_runs],
        recalls=standing.recalls,
    )


def _list_confirmations(confirmations: Confirmations) -> dict[str, Any]:
    configuration = confirmations.configuration
    return {
        "name": configuration.name,
        "configuration": configuration.key,
        "journal": confirmations.journal,
        "runs": [
            {
                "run_id": run.run_id,
                "seed": int(run.params["seed"]),
                "val_accuracy": run.metrics.get("best_val_accuracy"),
                "test_accuracy": run.metrics.get("test_accuracy"),
            }
            for run in confirmations.scored_runs
        ],
    }
