"""KerasTuner's HyperParameters with conditional scopes that may be nested in any order.

A module of its own, imported when a space is built, because importing KerasTuner takes seconds.
"""

from __future__ import annotations

from typing import Any

import keras_tuner


class NestingHyperParameters(keras_tuner.HyperParameters):  # type: ignore[misc]
    """A space in which a scope may be opened within that of another parent.

    The stock class looks for the parent of a scope only among the parameters of the scopes around it, so that neither
    two parents that know nothing of each other nor one that is itself conditional can be named.
    """

    def _exists(self, name: str, conditions: Any = None) -> bool:
        if conditions is None:
            return name in self._hps
        return bool(super()._exists(name, conditions))
