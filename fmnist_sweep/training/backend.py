"""TensorFlow as a trial needs it: imported without its start-up notes, with its cores and precision set."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from fmnist_sweep.errors import ConfigError
from fmnist_sweep.process.garbage import pause_while_importing
from fmnist_sweep.process.interpreter import LIBRARY_SETTINGS
from fmnist_sweep.training.environment import read_cpu_info


def import_tensorflow() -> None:
    """Import TensorFlow with its start-up notes kept off the terminal; an error of the import shows them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(LIBRARY_SETTINGS)  # for a node of a Ray cluster, whose process is not one of ours
    # For a flag that it does not know, XLA ends the process at once, without a chance to show what was kept back.
    with nullcontext() if "TF_XLA_FLAGS" in os.environ else buffer_stderr(), pause_while_importing():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()
    # As Keras has them by itself; its file in the user's home may say otherwise, and results follow from them.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    # It warns of tracing again where one process predicts with several models, each with a graph of its own.
    tf.get_logger().setLevel("ERROR")


@contextmanager
def buffer_stderr() -> Iterator[None]:
    """Keep what is written to file descriptor 2, from C++ too, and write it only if the block raises."""
    sys.stderr.flush()
    original_descriptor = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except Exception:
            buffer.seek(0)
            os.write(original_descriptor, buffer.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original_descriptor, 2)
            os.close(original_descriptor)


def count_usable_cores() -> int:
    """Cores that this process may use: fewer than the machine's where its affinity or its control group says so."""
    import joblib

    try:
        return int(joblib.cpu_count())
    except ValueError:
        limit = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise ConfigError(f"LOKY_MAX_CPU_COUNT={limit}: expected a number of cores above 0; or unset it.") from None


def share_gpus() -> None:
    """Let TensorFlow take as much of a GPU's memory as it needs instead of all, so that several processes can."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def clear_session() -> None:
    """Let go of all models and graphs of this process: names and seeds of the next one do not depend on them."""
    import keras
    from tensorflow.python.framework import ops

    # In each training step that it traces, TensorFlow registers a gradient under a new name, for good, and with it the
    # whole graph (tf.custom_gradient, which its sum over replicas uses). It has no public way to let go of it.
    gradients = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    for name in [name for name in gradients if name.startswith("CustomGradient-")]:
        del gradients[name]
    keras.backend.clear_session()  # this collects them


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU here."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _count_scheduled_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Threads:
    """How many cores TensorFlow computes on here, and among how many replicas of a network they are shared out."""

    cores: int | None = None  # None: not said yet
    replicas: int = 1


_threads = _Threads()


def set_threads(threads: int) -> None:
    """Import TensorFlow and let it compute on so many cores; call this before its first operation."""
    import_tensorflow()
    import tensorflow as tf

    if threads != _count_cores():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(1, min(threads, 2)))
        _threads.replicas = 1
    _threads.cores = threads


def _count_cores() -> int:
    """How many cores TensorFlow computes on, or would."""
    import tensorflow as tf

    # 0: as many as the scheduler lets this process use, which is then left as it is.
    return _threads.cores or tf.config.threading.get_intra_op_parallelism_threads() or _count_scheduled_cores()


def split_threads(replicas: int) -> None:
    """Share the cores out among replicas of a network that train side by side; before the first operation, too.

    All networks of a process have as many. Raises RuntimeError if TensorFlow computes already, shared out otherwise.
    """
    import tensorflow as tf

    if replicas == _threads.replicas:
        return
    cores = _count_cores()
    # An operation that is one replica's then leaves the other cores to the others.
    tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // replicas))
    tf.config.threading.set_inter_op_parallelism_threads(max(1, min(cores, max(2, replicas))))
    _threads.cores, _threads.replicas = cores, replicas


def resolve_precision(precision: str) -> str:
    """The precision to train in: for `auto`, that in which this processor is the quicker one."""
    return choose_precision(read_cpu_info()) if precision == "auto" else precision


def choose_precision(cpu_info: Mapping[str, str]) -> str:
    """The precision that a processor trains quicker in, from what the system tells of it.

    mixed_bfloat16 where it multiplies bfloat16 at a higher rate than float32: with AMX, and AMD's processors with
    AVX512_BF16. Intel's multiply it at half the rate, and an epoch takes 1.3 to 1.6 times as long
    (benchmarks/precision.py, benchmarks/engine.py). Emulated, it is slower still.
    """
    flags = cpu_info.get("flags", "").split()
    is_quicker = "amx_bf16" in flags or ("avx512_bf16" in flags and cpu_info.get("vendor_id") == "AuthenticAMD")
    return "mixed_bfloat16" if is_quicker else "float32"
