"""What one process at a time may do, of those that share a store's state folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from fmnist_sweep.errors import Locked, StoreError
from fmnist_sweep.files import LockHeld, hold_lock_file
from fmnist_sweep.tracking.store import locate_state_folder

if TYPE_CHECKING:
    from fmnist_sweep.tracking.store import Store

_PATIENCE_SECONDS = 60.0


def lock_registry(store: Store) -> AbstractContextManager[None]:
    """Hold the registry: versions and aliases. Raises Locked if another process holds it for over a minute."""
    return _lock(store, "registry.lock", f"models:/{store.model_name}")


def lock_test_images(store: Store) -> AbstractContextManager[None]:
    """Hold the opening of the test images. Raises Locked if another process holds it for over a minute."""
    return _lock(store, "the_test_images.lock", "the test images")


@contextmanager
def _lock(store: Store, file_name: str, resource: str) -> Iterator[None]:
    """Hold a lock file in the state folder of a store. resource: what the file stands for, in messages."""
    file = locate_state_folder(store.uri) / file_name
    with ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_lock_file(file, _PATIENCE_SECONDS))
        except LockHeld:
            raise Locked(
                f"another process has been busy with {resource} for over {_PATIENCE_SECONDS:.0f} s (it holds {file}): "
                "wait for it or end it, then type the command again."
            ) from None
        except OSError as error:
            raise StoreError(
                f"{file} cannot be written ({error.strerror or error}): {resource} is for one process at a time, which "
                "holds that file; type the command where you may write to that folder."
            ) from None
        yield
