"""A network of one's own, with a layer of one's own: separable convolutions whose channels are weighed.

Run: python -m fmnist_sweep --config-dir conf plugins=my_models.py model=separable
"""

from typing import Annotated

import keras
from pydantic import Field

from fmnist_sweep.plugins import model


@keras.saving.register_keras_serializable(package="my_models")
class ChannelGate(keras.layers.Layer):
    """Weighs each channel by what the means of all channels say of the image (Hu et al., 2018)."""

    def __init__(self, squeeze, **options):
        super().__init__(**options)
        self.squeeze = squeeze

    def build(self, shape):
        channels = shape[-1]
        # Layers within a layer have its precision, and not that of whoever loads the model.
        precision = {"dtype": self.dtype_policy}
        self.narrow = keras.layers.Dense(max(1, channels // self.squeeze), activation="relu", **precision)
        self.wide = keras.layers.Dense(channels, activation="sigmoid", **precision)
        self.narrow.build((None, channels))
        self.wide.build((None, self.narrow.units))

    def call(self, images):
        weights = self.wide(self.narrow(keras.ops.mean(images, axis=(1, 2))))
        return images * weights[:, None, None, :]

    def get_config(self):  # what __init__ takes, so that a saved model can be loaded
        return {**super().get_config(), "squeeze": self.squeeze}


@model
def separable(
    *,
    filters: Annotated[int, Field(ge=1, le=512)],
    blocks: Annotated[int, Field(ge=1, le=3)],
    squeeze: Annotated[int, Field(ge=1, le=16)],
    image_shape: tuple[int, int, int],
    labels: int,
) -> keras.Model:
    """Build residual blocks of separable convolutions, each with a gate and a pooling, and a global average.

    The first three parameters are settings; the project fills in the shape of an image and the number of labels.
    """
    pixels = keras.Input(image_shape, dtype="uint8")
    images = keras.layers.Rescaling(1 / 255)(pixels)
    images = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(images)
    for _ in range(blocks):
        changed = keras.layers.SeparableConv2D(filters, 3, padding="same")(images)
        changed = keras.layers.ReLU()(keras.layers.BatchNormalization()(changed))
        images = keras.layers.Add()([images, ChannelGate(squeeze)(changed)])
        images = keras.layers.MaxPooling2D(2)(images)
    vector = keras.layers.GlobalAveragePooling2D()(images)
    # float32 at any precision: probabilities in bfloat16 have three digits.
    return keras.Model(pixels, keras.layers.Dense(labels, activation="softmax", dtype="float32")(vector))
