"""Keras and TensorFlow as results follow from them, whatever a user's other projects set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.process import run

SHOW = """
from fmnist_sweep.training.backend import import_tensorflow
import_tensorflow()
import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon())
"""


@pytest.mark.slow
def test_neither_variables_nor_the_file_of_keras_are_followed(tmp_path: Path) -> None:
    theirs = {"backend": "jax", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}
    (tmp_path / "keras.json").write_text(json.dumps(theirs))
    environment = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1"}
    ended = run("-c", SHOW, cwd=tmp_path, environment=environment)
    assert ended.returncode == 0, ended
    assert ended.stdout.split() == ["tensorflow", "float32", "channels_last", "1e-07"]
