"""What a process keeps for good, forgotten between tests."""

from __future__ import annotations

from fmnist_sweep.data import loading


def clear_splits_cache() -> None:
    """Let the next `load_splits` read its files again."""
    loading._load.cache_clear()
