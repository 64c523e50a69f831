"""A frozen base is opened from its end, block by block."""

import re

import keras

from crackclf.errors import UserError
from crackclf.models.parts import base_of

# As keras.applications call the layers of their blocks; what follows a block belongs to it.
_BLOCK = re.compile(r"(.*block_?\d+[a-z]?|expanded_conv(_\d+)?)(?=_|$)")


def unfreeze(model: keras.Model, blocks: int = 1, learning_rate: float = 1e-5) -> None:
    """Makes the last blocks of a frozen base trainable, and compiles the model anew.

    A block is what the base's paper calls so (in MobileNetV2 an inverted residual, in ResNet50 a
    bottleneck, in VGG16 the convolutions between two poolings), the last one with all that follows
    it. BatchNormalization stays frozen, statistics, scale and offset: small batches of few images
    would spoil statistics that were learnt from a million.

    Args:
        model: from `build_model`, its head trained; changed in place. Its loss, metrics and kind of
            optimizer stay.
        blocks: how many to unfreeze, from the end; those before them are frozen.
        learning_rate: of the new optimizer; far below the head's, so that what was learnt is kept.

    Raises:
        UserError: when the model has no base of that many blocks.

    Example:

    ```python
    unfreeze(model, blocks=2)
    ```
    """
    base, starts = base_of(model), find_blocks(model, blocks)
    base.trainable = True
    for index, layer in enumerate(base.layers):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = index >= starts[-blocks] and not is_norm
    optimizer = model.optimizer
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    fresh = type(optimizer).from_config(optimizer.get_config() | {"learning_rate": learning_rate})
    model.compile(**config | {"optimizer": fresh})


def find_blocks(model: keras.Model, blocks: int) -> list[int]:
    """The first layer of each block of a model's base; a `UserError` when it has fewer blocks."""
    base = base_of(model)
    starts, block = [], None
    for index, layer in enumerate(base.layers):
        match = _BLOCK.match(layer.name)
        if match and match[0] != block:
            block = match[0]
            starts.append(index)
    if not 1 <= blocks <= len(starts):
        raise UserError(
            f"blocks must be from 1 to {len(starts)}, as many as {base.name} has. "
            f"Received: {blocks}."
        )
    return starts
