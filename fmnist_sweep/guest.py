"""How the Python interface behaves in a process of the user's: it leaves everything there as it was."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fmnist_sweep.errors import ConfigError, StoreError, UserError
from fmnist_sweep.process.environ import restore_environment
from fmnist_sweep.report.matplotlib_settings import keep_matplotlib_settings

if TYPE_CHECKING:
    from fmnist_sweep.interrupts import Stop
    from fmnist_sweep.report.terminal import View


@contextmanager
def be_a_guest() -> Iterator[None]:
    """Leave the user's process as it was: environment, matplotlib's settings, loggers; and explain a lost store."""
    root = logging.getLogger()
    level = root.level
    with restore_environment("MPLBACKEND"), keep_matplotlib_settings():
        try:
            yield
        except UserError:
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: what is finished is kept, and the same call continues") from None
        except Exception as error:
            if "cannot be modified after initialization" in str(error):  # TensorFlow
                raise ConfigError(
                    "executor.threads or train.replicas: TensorFlow computes in this process already, and shares out "
                    "its cores otherwise; say executor=local, or restart the kernel."
                ) from error
            from fmnist_sweep.tracking.connection import explain_lost_store

            sentence = explain_lost_store(error)
            if sentence is None:
                raise
            raise StoreError(sentence) from error
        finally:
            root.setLevel(level)
            gc.unfreeze()


@contextmanager
def route_interrupts(view: View) -> Iterator[Stop]:
    """Let the first interrupt finish the epoch, where Python lets this thread hear of it."""
    from fmnist_sweep.interrupts import Stop, route_signals

    stop = Stop(view.say)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with route_signals(stop):
        yield stop
