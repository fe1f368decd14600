"""Model builders: keyword arguments in, an uncompiled keras.Model out.

Every model takes raw pixels, 0..255, of shape (n, 28, 28, 1) and returns ten class probabilities, unless the data has
another shape or other labels. A builder's keyword-only signature *is* the schema of its config: the annotations state
what is allowed, and `config` checks it. A new topology takes one function here and one YAML file in conf/model/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fmnist_sweep import plugins
from fmnist_sweep.data.description import IMAGE_SIDE, LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.search.tunable import Count
from fmnist_sweep.training.poolings import check_blocks, check_poolings

if TYPE_CHECKING:
    import keras

BUILDERS = plugins.MODELS
ImageShape = tuple[int, int, int]  # height, width, channels
PLAIN_SHAPE: ImageShape = (IMAGE_SIDE, IMAGE_SIDE, 1)  # of the images that every builder is for
OUTPUT_LAYER = "probabilities"  # its name in every model
WHITENING_LAYER, WHITENING_SIDE = "whitening", 2  # its name, and the side of the patches that it whitens
MAX_WIDTH = 4096
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
DenseUnits = Annotated[int, Field(ge=0, le=MAX_WIDTH)]
Growth = Annotated[float, Field(ge=1, le=4)]
Widths = Annotated[list[Width], Field(max_length=16)]
Block = Annotated[list[Width], Field(min_length=1, max_length=8)]
Blocks = Annotated[list[Block], Field(min_length=1), AfterValidator(check_blocks)]
ConvLayers = Annotated[int, Field(ge=1), AfterValidator(check_poolings)]
KernelSize = Annotated[int, Field(ge=1, le=IMAGE_SIDE)]
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


class _Layers:
    """The layers of a model under construction; all hidden layers are regularized in the same way."""

    def __init__(self, regularization: Regularization, image_shape: ImageShape, labels: int) -> None:
        import keras

        self._keras = keras
        self._labels = labels
        self._sides = image_shape[:2]
        self._regularization = regularization
        self._hidden_count = 0
        self._layers: list[Any] = [
            # The input is uint8, as raw pixels are; the rescaling is part of the saved model.
            keras.Input(image_shape, dtype="uint8", name="pixels"),
            keras.layers.Rescaling(1 / 255, name="scale"),
        ]

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
        # float32 at any precision: a softmax in bfloat16 has only three significant digits.
        output = self._keras.layers.Dense(self._labels, activation="softmax", dtype="float32", name=OUTPUT_LAYER)
        layers = [*self._layers, output]
        if not any(isinstance(layer, _Residual) for layer in layers):
            return self._keras.Sequential(layers)
        pixels, *others = layers
        return self._keras.Model(pixels, self._connect(others, pixels))

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


@plugins.model
def cnn(
    *,
    filters: Width,
    conv_layers: ConvLayers,
    kernel_size: KernelSize,
    dense_units: DenseUnits,
    growth: Growth = 1.0,
    pooling: Literal["after_activation", "before_normalization"] = "after_activation",
    residual: bool = False,
    head: Literal["flatten", "global_average"] = "flatten",
    whitening: bool = False,
    regularization: Regularization,
    image_shape: ImageShape = PLAIN_SHAPE,
    labels: int = len(LABELS),
) -> "keras.Model":
    """Build the searchable network: convolutions, each with a pooling, a head, and a dense layer.

    filters: of the first convolution; each next one has `growth` times as many, MAX_WIDTH at most. pooling: where in
    a layer; before the normalisation, all that follows has a quarter of the work, and a maximum commutes with ReLU.
    residual: each pooled convolution is followed by a residual block of its width. head: what makes one vector of the
    last images; a global average has no weights to overfit (Lin et al., 2014). dense_units: 0 for no dense
    layer; its dropout then stands before the output. whitening: a frozen first layer whitens patches of 2x2 pixels.
    """
    layers = _Layers(regularization, image_shape, labels)
    if whitening:
        layers.add_whitening(image_shape[2])
    for depth in range(conv_layers):
        width = min(MAX_WIDTH, round(filters * growth**depth))
        is_pooled_first = pooling == "before_normalization"
        layers.add_conv(width, kernel_size, has_pooling=is_pooled_first)
        if not is_pooled_first:
            layers.add_pooling()
        if residual:
            layers.add_residual_block(width, kernel_size)
    if head == "flatten":
        layers.add_flatten()
    else:
        layers.add_global_average()
    if dense_units:
        layers.add_dense(dense_units)
    else:
        layers.add_dropout()
    return layers.build_classifier()


@plugins.model
def conv_stack(
    *,
    blocks: Blocks,
    kernel_size: KernelSize,
    dense_widths: Widths,
    regularization: Regularization,
    image_shape: ImageShape = PLAIN_SHAPE,
    labels: int = len(LABELS),
) -> "keras.Model":
    """Build a stack of convolutions and dense layers; each block is a list of widths and ends in a pooling."""
    layers = _Layers(regularization, image_shape, labels)
    for block in blocks:
        for filters in block:
            layers.add_conv(filters, kernel_size)
        layers.add_pooling()
    layers.add_flatten()
    for units in dense_widths:
        layers.add_dense(units)
    return layers.build_classifier()


@plugins.model
def mlp(
    *,
    dense_widths: Widths,
    regularization: Regularization,
    image_shape: ImageShape = PLAIN_SHAPE,
    labels: int = len(LABELS),
) -> "keras.Model":
    """Build a simple dense network on the flattened pixels."""
    layers = _Layers(regularization, image_shape, labels)
    layers.add_flatten()
    for units in dense_widths:
        layers.add_dense(units)
    return layers.build_classifier()


def build_model(
    model: Mapping[str, Any],
    regularization: Mapping[str, Any],
    image_shape: ImageShape = PLAIN_SHAPE,
    labels: int = len(LABELS),
) -> "keras.Model":
    """Build the model of a trial from the `model` and `regularization` sections of its resolved config.

    image_shape: of an image. labels: their number. Raises ConfigError for a builder that takes none of them and is for
    others.
    """
    name = model["builder"]
    handed: dict[str, Any] = {}
    if has_regularization(name):
        handed["regularization"] = Regularization(**regularization)
    for parameter, given, plain in (("image_shape", image_shape, PLAIN_SHAPE), ("labels", labels, len(LABELS))):
        if BUILDERS.takes(name, parameter):
            handed[parameter] = given
        elif given != plain:
            raise ConfigError(
                f"model.builder={name}: it takes no {parameter}, and so is for {plain} only, and the data has {given}; "
                f"add the parameter {parameter} to the builder, or choose another one."
            )
    arguments = {key: value for key, value in model.items() if key != "builder"}
    return _check_model(BUILDERS[name](**arguments, **handed), name, image_shape, labels)


def _check_model(built: Any, name: str, image_shape: ImageShape, labels: int) -> "keras.Model":
    """What a builder returned. Raises ConfigError unless it is a model of these images and labels."""
    import keras

    if not isinstance(built, keras.Model):
        raise ConfigError(f"model.builder={name}: it returned a {type(built).__name__}; expected a keras.Model.")
    try:
        shapes = {"takes": (built.input_shape, (None, *image_shape)), "gives": (built.output_shape, (None, labels))}
    except AttributeError:  # of a subclass that was never called
        raise ConfigError(
            f"model.builder={name}: its model has no shapes yet; call it once, or give it inputs."
        ) from None
    for verb, (found, expected) in shapes.items():
        if found != expected:
            raise ConfigError(
                f"model.builder={name}: its model {verb} {found}; expected {expected}, None for any number."
            )
    return built


def has_whitening(model: Mapping[str, Any]) -> bool:
    """Whether the model of a resolved section `model` has a first layer that whitens patches."""
    return model["builder"] == cnn.__name__ and bool(model.get("whitening", False))


def has_regularization(builder: str) -> bool:
    """Whether a builder takes the settings of `regularization`."""
    return BUILDERS.takes(builder, "regularization")
