"""What runs on a node of a Ray cluster: one attempt of one trial."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator, Mapping
from functools import cache

from fmnist_sweep import __version__
from fmnist_sweep.data import Splits
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.training import backend, trial
from fmnist_sweep.training.events import TrialEvent, TrialSpec, TrialStart

NAMESPACE = "fmnist_sweep"  # of flags in the cluster's key-value store


def train_trial(
    spec: TrialSpec, splits: Splits, threads: int, gpus: float, expected: Mapping[str, str], stop_key: bytes
) -> Iterator[TrialEvent]:
    """Run one attempt of a trial as a Ray task, and yield its events.

    gpus: how many the task has. expected: the supervisor's `read_node_versions`. stop_key: in the cluster's key-value
    store once the user asked for an end.
    """
    _refuse_other_versions(expected)
    _prepare_process(threads, gpus > 0)
    yield TrialStart(spec.trial_id, f"{socket.gethostname()} (process {os.getpid()})")
    yield from trial.run_trial(spec, splits, lambda: _is_stopping(stop_key))


@cache
def _prepare_process(threads: int, gpu: bool) -> None:
    """Set TensorFlow up, once in a process, which Ray keeps for later trials; later it would take no settings."""
    backend.set_threads(threads)
    if gpu:
        backend.share_gpus()
    else:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")  # the trial asked for none, and others may have asked for the node's


def _is_stopping(stop_key: bytes) -> bool:
    from ray.exceptions import RayError
    from ray.experimental import internal_kv

    try:
        return bool(internal_kv._internal_kv_exists(stop_key, namespace=NAMESPACE))
    except RayError:  # the head is away; one more epoch does no harm
        return False


def read_node_versions() -> dict[str, str]:
    """The versions of what decides a trial's last bits, and of what both sides must share."""
    import keras
    import numpy as np
    import tensorflow as tf

    return {
        "Python": platform.python_version(),
        "fmnist_sweep": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _refuse_other_versions(expected: Mapping[str, str]) -> None:
    backend.import_tensorflow()
    node_versions = read_node_versions()
    differences = [
        f"{name} {node_versions[name]} instead of {version}"
        for name, version in expected.items()
        if node_versions[name] != version
    ]
    if differences:
        raise ConfigError(
            f"executor=ray: node {socket.gethostname()} has {', '.join(differences)}; give every node the versions of "
            "the machine that runs the sweep, from constraints.txt or one image for all (docs/clusters.md)."
        )
