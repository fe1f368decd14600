"""Nonces: marks of runs in the tracking store that only the journal which began them can have made.

A run's other tags are public: whoever may read the store can copy them before the run is there. A nonce is known only
once its run is in the store, and each run has its own.
"""

from __future__ import annotations

import hmac
import secrets

RUN = "run"  # what the nonce of a study's or sweep's own run is made of


def draw_secret() -> str:
    """A new secret for a journal."""
    return secrets.token_hex(16)


def compute_nonce(secret: str, *words: object) -> str:
    """The nonce of one run. secret: of the journal. words: RUN, or a trial's id and the number of an attempt."""
    return hmac.new(secret.encode(), "/".join(map(str, words)).encode(), "sha256").hexdigest()[:32]
