"""Augmentation, preprocessing, a frozen base and a softmax head in one Keras model."""

import os

import keras

from crackclf.errors import UserError
from crackclf.models.augmentation import build_augmentation
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone


def build_model(
    image_size: int = 160,
    backbone: str = "mobilenetv2",
    weights: str | os.PathLike | None = "imagenet",
    augmentation: keras.Layer | None = None,
    dropout: float = 0.2,
    learning_rate: float = 1e-3,
) -> keras.Model:
    """Builds and compiles a two-class classifier on a frozen, pre-trained base.

    Everything between the pixels and the probabilities is inside: augmentation (in training
    only), the backbone's own preprocessing, the base called with `training=False`, global
    average pooling, dropout and a softmax layer. Compiled with Adam, categorical cross-entropy
    and accuracy.

    Args:
        image_size: height and width of the input in pixels.
        backbone: a key of `crackclf.models.backbones.BACKBONES`.
        weights: `"imagenet"`, `"concrete"` for the base that comes with the package, the path
            of a weights file, or None for random weights; see `build_backbone`.
        augmentation: a layer from images to images; `build_augmentation()` when None.
        dropout: share of the pooled features dropped in training, from 0 to below 1.
        learning_rate: of Adam.

    Returns:
        A compiled `keras.Model` from float or uint8 RGB images of shape (batch, image_size,
        image_size, 3) in 0..255 to probabilities of shape (batch, 2). Its attributes
        `backbone` and `weights_origin` say which base it has and where its weights came from.

    Raises:
        UserError: when an argument cannot be used.

    Example:

    ```python
    model = build_model(image_size=160)
    model.summary()
    ```
    """
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be from 0 to below 1. Received: {dropout}.")
    base, origin = build_backbone(backbone, image_size, weights)
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = (augmentation or build_augmentation())(inputs)
    x = BACKBONES[backbone].preprocessing()(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(2, activation="softmax", name="probabilities")(x)
    model = keras.Model(inputs, outputs, name="crackclf")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.backbone, model.weights_origin = backbone, origin
    return model
