"""Sentences of the gate: its rule, how a finalist compares with the champion, and what the verdict means."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmnist_sweep.promotion.gate import Assessment, Rule, Verdict
    from fmnist_sweep.promotion.overused_labels import OverusedLabel
    from fmnist_sweep.promotion.spending import DecisionShare


def describe_rule(rule: Rule, finalists: int, openings: int, level: float, share: DecisionShare) -> str:
    """Describe the rule with its numbers and sources. level: after correction, as a fraction of 1."""
    finalist_noun = "finalists" if finalists > 1 else "finalist"
    opening_noun = "openings" if openings > 1 else "opening"
    return (
        f"A finalist is better if the {100 * level:.4g}% interval of its gain in test accuracy over the champion lies "
        f"above 0, the gain is at least {format_points(rule.min_gain)}, and the mean recall of no class over seeds "
        f"falls by more than {format_points(rule.class_drop)}, except of one whose label the champion gives mostly to "
        "images of others; of several better finalists the one with the highest mean test accuracy wins. The interval "
        "accounts for seeds and images together (crossed random effects, degrees of freedom after Satterthwaite, "
        "Biometrics Bulletin 2, 1946). Its level is "
        f"{_describe_level(rule, share)} corrected for {finalists} {finalist_noun} and {openings} {opening_noun} of "
        f"the test images for {'them' if finalists > 1 else 'it'} (Bonferroni; O. J. Dunn, JASA 56, 1961)."
    )


def _describe_level(rule: Rule, share: DecisionShare) -> str:
    """The level of a decision before it is corrected for finalists and openings."""
    level = share.correct_level(rule.level)
    if level == rule.level:
        return f"{100 * level:.4g}%"
    return (
        f"{100 * level:.5g}% (what the account of the test images leaves decision {share.number} on them of the "
        f"{100 * (1 - rule.level):.3g}% error of all decisions)"
    )


def explain_assessment(standing: Assessment, champion: Assessment | None) -> str:
    """Explain how a finalist compares with the champion."""
    difference = standing.difference
    if champion is None or difference is None:
        return f"{standing.name}: test accuracy {standing.accuracy}; there is no champion."
    reason = "; ".join(standing.objections) or "it is better by the rule"
    return f"{standing.name}: {standing.gain_text} over the champion {champion.name}; {reason}."


def explain_overused_label(champion_name: str, overused: OverusedLabel) -> str:
    """Explain why a finalist's recall of a label is not measured by the champion's."""
    return (
        f"{champion_name} calls {overused.share:.1%} of the images {overused.label}, and of these only "
        f"{overused.precision:.1%} are: a fall of the recall of {overused.label}, {overused.recall:.4f}, is held "
        "against no finalist."
    )


def explain_verdict(verdict: Verdict, winner: Assessment) -> str:
    """Explain what a verdict means for its winner."""
    mean = f"{winner.accuracy.mean:.4f}"
    if verdict == "first":
        return f"{winner.name} is the first champion: it has the highest mean test accuracy, {mean}."
    if verdict == "better":
        return (
            f"{winner.name} takes the champion's place: it has the highest mean test accuracy of the better finalists, "
            f"{mean}."
        )
    sentence = "The champion keeps its place"
    if verdict == "worse":
        return f"{sentence}: {winner.name}, the finalist with the highest mean test accuracy, {mean}, is worse."
    return (
        f"{sentence}: no finalist meets every part of the rule; {winner.name} has the highest mean test accuracy, "
        f"{mean}."
    )


def format_points(fraction: float) -> str:
    """Format a fraction of 1 in percentage points."""
    return f"{100 * fraction:.2f} points"
