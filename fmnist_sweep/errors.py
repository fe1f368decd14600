"""What a user can cause, and the exit code each cause ends with.

Every class here is shown as one sentence without a traceback; anything else is a failure of ours and shows one.
"""

from __future__ import annotations

import errno
from enum import IntEnum

# A disk that is full, over its quota, read-only or broken: no fault of what was being written.
DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))


class ExitCode(IntEnum):
    """How a command ended; documented in the README."""

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
    """One sentence for the user: the culprit, what was expected, what was found, the next step."""

    exit_code = ExitCode.BUG


class ConfigError(UserError):
    """A config or override that cannot be run."""

    exit_code = ExitCode.CONFIG


class DataError(UserError):
    """Data that is missing, damaged or not Fashion-MNIST."""

    exit_code = ExitCode.DATA


class StoreError(UserError):
    """A tracking store that cannot be reached, read or written."""

    exit_code = ExitCode.STORE


class Locked(UserError):
    """A study that another process is running."""

    exit_code = ExitCode.LOCKED


class PromotionRefused(UserError):
    """A model that may not be promoted, and why."""

    exit_code = ExitCode.REFUSED
