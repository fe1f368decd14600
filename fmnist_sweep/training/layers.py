"""The layers of a network under construction, all of them regularized in the same way."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fmnist_sweep.search.tunable import Count

if TYPE_CHECKING:
    import keras

ImageShape = tuple[int, int, int]  # height, width, channels
OUTPUT_LAYER = "probabilities"  # its name in every model
WHITENING_LAYER, WHITENING_SIDE = "whitening", 2  # its name, and the side of the patches that it whitens
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
Penalty = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """The measures against overfitting that every builder takes.

    dropout: rate; 0 for none. dropout_after: the hidden dense layers only, or every hidden layer.
    batch_normalization: between each of the first `batch_normalization_layers` hidden layers (null: all of them)
    and its activation. l2: penalty on the kernels of all hidden layers.
    """

    dropout: DropoutRate
    dropout_after: Literal["dense", "every_layer"]
    batch_normalization: bool
    batch_normalization_layers: Count | None
    l2: Penalty


@dataclass(frozen=True)
class _Residual:
    """Layers whose output is added to their input."""

    layers: Sequence[Any]


class Layers:
    """The layers of a model under construction."""

    def __init__(self, regularization: Regularization, image_shape: ImageShape, labels: int) -> None:
        import keras

        self._keras = keras
        self._labels = labels
        self._sides = self._first_sides = image_shape[:2]
        self._regularization = regularization
        self._hidden_count = 0
        self._layers: list[Any] = [
            # The input is uint8, as raw pixels are; the rescaling is part of the saved model.
            keras.Input(image_shape, dtype="uint8", name="pixels"),
            keras.layers.Rescaling(1 / 255, name="scale"),
        ]
        self._shared = self._layers
        self._members: list[list[Any]] = []

    def begin_member(self) -> None:
        """What is added from here on is one member of an ensemble, on what was added before the first one."""
        self._sides, self._hidden_count, self._layers = self._first_sides, 0, []
        self._members.append(self._layers)

    def add_whitening(self, channels: int) -> None:
        """A convolution that is not trained and a ReLU; `whitening` computes its kernels from the training images."""
        filters = 2 * channels * WHITENING_SIDE**2
        layer = self._keras.layers.Conv2D(
            filters, WHITENING_SIDE, padding="same", trainable=False, name=WHITENING_LAYER
        )
        self._layers += [layer, self._keras.layers.ReLU()]

    def add_conv(self, filters: int, kernel_size: int, *, has_pooling: bool = False) -> None:
        """A hidden convolution. has_pooling: what follows it at once is a pooling, before normalisation and ReLU."""
        layer = self._keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            kernel_regularizer=self._make_penalty(),
            use_bias=not self._has_normalization(),
        )
        dropout = self._regularization.dropout_after == "every_layer"
        self._add_hidden(layer, dropout=dropout, has_pooling=has_pooling)

    def add_dense(self, units: int) -> None:
        layer = self._keras.layers.Dense(
            units, kernel_regularizer=self._make_penalty(), use_bias=not self._has_normalization()
        )
        self._add_hidden(layer, dropout=True)

    def add_residual_block(self, filters: int, kernel_size: int) -> None:
        """Two convolutions whose output is added to their input, of as many channels (He et al., 2016)."""
        start = len(self._layers)
        self.add_conv(filters, kernel_size)
        self.add_conv(filters, kernel_size)
        self._layers[start:] = [_Residual(self._layers[start:])]

    def add_pooling(self) -> None:
        """Halve the image; one of a single pixel, down or across, stays as it is."""
        if min(self._sides) < 2:
            return
        self._sides = (self._sides[0] // 2, self._sides[1] // 2)
        self._layers.append(self._keras.layers.MaxPooling2D(2))

    def add_dropout(self) -> None:
        if self._regularization.dropout > 0:
            self._layers.append(self._keras.layers.Dropout(self._regularization.dropout))

    def add_flatten(self) -> None:
        self._layers.append(self._keras.layers.Flatten())

    def add_global_average(self) -> None:
        self._layers.append(self._keras.layers.GlobalAveragePooling2D())

    def build_classifier(self) -> "keras.Model":
        if len(self._members) > 1:
            return self._build_ensemble()
        layers = [*self._shared, *itertools.chain(*self._members), self._make_output(OUTPUT_LAYER)]
        if not any(isinstance(layer, _Residual) for layer in layers):
            return self._keras.Sequential(layers)
        pixels, *others = layers
        return self._keras.Model(pixels, self._connect(others, pixels))

    def _build_ensemble(self) -> "keras.Model":
        pixels, *shared = self._shared
        tensor = self._connect(shared, pixels)
        outputs = [
            self._connect([*member, self._make_output(f"{OUTPUT_LAYER}_{number}")], tensor)
            for number, member in enumerate(self._members, 1)
        ]
        return self._keras.Model(pixels, self._keras.layers.Average(dtype="float32", name=OUTPUT_LAYER)(outputs))

    def _make_output(self, name: str) -> Any:
        # float32 at any precision: a softmax in bfloat16 has only three significant digits.
        return self._keras.layers.Dense(self._labels, activation="softmax", dtype="float32", name=name)

    def _connect(self, layers: Sequence[Any], tensor: Any) -> Any:
        for layer in layers:
            if isinstance(layer, _Residual):
                tensor = self._keras.layers.Add()([tensor, self._connect(layer.layers, tensor)])
            else:
                tensor = layer(tensor)
        return tensor

    def _add_hidden(self, layer: Any, *, dropout: bool, has_pooling: bool = False) -> None:
        has_normalization = self._has_normalization()
        self._hidden_count += 1
        self._layers.append(layer)
        if has_pooling:
            self.add_pooling()
        if has_normalization:
            self._layers.append(self._keras.layers.BatchNormalization())
        self._layers.append(self._keras.layers.ReLU())
        if dropout:
            self.add_dropout()

    def _has_normalization(self) -> bool:
        limit = self._regularization.batch_normalization_layers
        return self._regularization.batch_normalization and (limit is None or self._hidden_count < limit)

    def _make_penalty(self) -> Any:
        return self._keras.regularizers.L2(self._regularization.l2) if self._regularization.l2 else None
