"""What several of the tests of journals share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal can be made."""
    return tmp_path / "journal.db"
