"""Addresses of artifacts as a store keeps them: plain paths and file: URIs of this machine, and others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_FILE_SCHEME = "file:"


def parse_local_address(address: object) -> Path | None:
    """The folder that an address names; None for a server's, a cloud's, a relative path and what is no address."""
    if not isinstance(address, str) or "\0" in address:
        return None
    path = address
    if address.lower().startswith(_FILE_SCHEME):
        try:
            parts = urlsplit(address)
        except ValueError:
            return None
        path = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    elif _SCHEME.match(address):
        return None
    # POSIX keeps two slashes at the beginning of a path, and no address means them.
    return Path(f"/{path.lstrip('/')}") if path.startswith("/") and "\0" not in path else None


def move_address(address: object, moves: Mapping[Path, Path]) -> str | None:
    """The address that leads to the new folder, in the form of the old one; None for one that stays.

    moves: new folders by the old ones, which take what is below them along.
    """
    path = parse_local_address(address)
    if path is None:
        return None
    for old in sorted(moves, key=lambda folder: len(folder.parts), reverse=True):  # the innermost first
        if path.is_relative_to(old):
            moved = moves[old] / path.relative_to(old)
            return moved.as_uri() if str(address).lower().startswith(_FILE_SCHEME) else str(moved)
    return None
