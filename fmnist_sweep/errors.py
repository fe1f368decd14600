"""The errors that a user can cause, and the exit code of each.

These are shown as one sentence without a traceback. Any other exception is a bug, and shows its traceback.
"""

from __future__ import annotations

import errno
from enum import IntEnum

from fmnist_sweep.masking import mask_credentials
from fmnist_sweep.text import shorten_sentence

# The disk is full, over its quota, read-only or broken; nothing is wrong with what was being written.
DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))


class ExitCode(IntEnum):
    """The exit codes of all commands, as docs/exit-codes.md lists them."""

    DONE = 0
    BUG = 1
    CONFIG = 2
    DATA = 3
    STORE = 4
    ALL_FAILED = 5
    SOME_FAILED = 6
    LOCKED = 7
    REFUSED = 8
    NOT_BETTER = 9
    NOT_REPRODUCED = 10
    INTERRUPTED = 130


class UserError(Exception):
    """One sentence for the user: what is wrong, what was expected, what was found, and the next step.

    Whatever it quotes, it is no longer than a screen and holds no credentials.
    """

    exit_code = ExitCode.BUG

    def __init__(self, sentence: str) -> None:
        super().__init__(shorten_sentence(mask_credentials(sentence)))


class ConfigError(UserError):
    """A config, override or option that cannot be used."""

    exit_code = ExitCode.CONFIG


class DataError(UserError):
    """Data that is missing, damaged or not what it should be."""

    exit_code = ExitCode.DATA


class StoreError(UserError):
    """A tracking store that cannot be reached, read or written."""

    exit_code = ExitCode.STORE


class Locked(UserError):
    """Something that another process holds, such as a study."""

    exit_code = ExitCode.LOCKED


class PromotionRefused(UserError):
    """A model that may not be promoted, or a version that may not be used."""

    exit_code = ExitCode.REFUSED
