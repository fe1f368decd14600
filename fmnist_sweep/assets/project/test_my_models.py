"""The model of my_models.py: what it gives, and that it is the same once it was saved. Run: python -m pytest"""

import keras
import numpy as np
from my_models import separable


def test_a_saved_model_predicts_what_it_did(tmp_path):
    model = separable(filters=8, blocks=2, squeeze=4, image_shape=(28, 28, 1), labels=10)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype("uint8")
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (3, 10)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), probabilities, atol=1e-6)
