"""How decisions on the same test images share the error that they may make together: a pure rule.

Every decision that compares finalists with a champion may promote one that is no better. With an interval of confidence
L, of which only one side does harm, it does so in at most (1 - L) / 2 of cases. Of the error 1 - promote.level that a
whole history may make, decision n spends the share 1 / (n (n + 1)). The shares of all decisions there will ever be sum
up to 1, and 1 / (n + 1) is left after n: Bonferroni over decisions, spent as by the functions of Lan and DeMets
(Biometrika 70, 1983, 659-663). The first is decided at promote.level itself.

The ladder of Blum and Hardt (ICML 2015, 1006-1014) bounds how far shown figures lead astray. For 50 decisions on 10,000
images its step, (log(k n) / n)^(1/3), is 11 points. Without parameters its step is one standard error of a paired
difference, which one in six equals climbs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecisionShare:
    """What one decision may spend. number: among the decisions on the same test images, from 1."""

    number: int

    @property
    def fraction(self) -> float:
        """Of the error that all decisions may make together."""
        return 1 / (self.number * (self.number + 1))

    @property
    def remainder(self) -> float:
        """The fraction that is left after it for all that follow."""
        return 1 / (self.number + 1)

    def correct_level(self, level: float) -> float:
        """Confidence of the interval that this decision is made by. level: of the first decision (promote.level)."""
        return 1 - self.compute_error(level) * 2

    def compute_error(self, level: float) -> float:
        """Largest probability that this decision promotes a model that is no better."""
        return (1 - level) * self.fraction


FIRST_SHARE = DecisionShare(1)
