"""What tests share: real processes, servers, browsers and disks, tiny studies, simulated trials."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
