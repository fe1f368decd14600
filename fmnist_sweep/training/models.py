"""Model builders: keyword arguments in, an uncompiled keras.Model out.

Every model takes raw pixels, 0..255, of shape (n, 28, 28, 1) and returns ten class probabilities, unless the data has
another shape or other labels. A builder's keyword-only signature *is* the schema of its config: the annotations state
what is allowed, and `config` checks it. A new topology takes one function here and one YAML file in conf/model/.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from fmnist_sweep import plugins
from fmnist_sweep.data.description import IMAGE_SIDE, LABELS
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.training.layers import ImageShape, Layers, Regularization
from fmnist_sweep.training.poolings import check_blocks, check_poolings

if TYPE_CHECKING:
    import keras

BUILDERS = plugins.MODELS
PLAIN_SHAPE: ImageShape = (IMAGE_SIDE, IMAGE_SIDE, 1)  # of the images that every builder is for
MAX_WIDTH = 4096
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
DenseUnits = Annotated[int, Field(ge=0, le=MAX_WIDTH)]
Growth = Annotated[float, Field(ge=1, le=4)]
Widths = Annotated[list[Width], Field(max_length=16)]
Block = Annotated[list[Width], Field(min_length=1, max_length=8)]
Blocks = Annotated[list[Block], Field(min_length=1), AfterValidator(check_blocks)]
ConvLayers = Annotated[int, Field(ge=1), AfterValidator(check_poolings)]
Members = Annotated[int, Field(ge=1, le=16)]
KernelSize = Annotated[int, Field(ge=1, le=IMAGE_SIDE)]


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
    members: Members = 1,
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
    members: so many such networks side by side, of other first weights; each learns by its own loss, and their
    probabilities are averaged (Hansen and Salamon, 1990).
    """
    layers = Layers(regularization, image_shape, labels)
    if whitening:
        layers.add_whitening(image_shape[2])
    for _ in range(members):
        layers.begin_member()
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
    layers = Layers(regularization, image_shape, labels)
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
    layers = Layers(regularization, image_shape, labels)
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


def count_members(model: Mapping[str, Any]) -> int:
    """How many networks the model of a resolved section `model` averages; 1 for one that is no ensemble."""
    return int(model.get("members", 1)) if model["builder"] == cnn.__name__ else 1


def has_regularization(builder: str) -> bool:
    """Whether a builder takes the settings of `regularization`."""
    return BUILDERS.takes(builder, "regularization")
