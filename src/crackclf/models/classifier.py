"""Augmentation, preprocessing, a frozen base and a softmax head in one Keras model."""

import os

import keras

from crackclf.errors import check_at_least, check_share
from crackclf.images.size import check_size
from crackclf.models.augmentation import build_augmentation
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone


def build_model(
    image_size: int = 160,
    backbone: str = "mobilenetv2",
    weights: str | os.PathLike | None = "imagenet",
    augmentation: keras.Layer | None = None,
    hidden_units: int = 0,
    dropout: float = 0.2,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    learning_rate: float = 1e-3,
    classes: int = 2,
    seed: int = 0,
) -> keras.Model:
    """Builds and compiles a classifier on a frozen, pre-trained base.

    Everything between the pixels and the probabilities is inside: augmentation (in training
    only), the backbone's own preprocessing, the base called with `training=False`, global
    average pooling, perhaps a hidden layer, dropout and a softmax layer. Compiled with Adam,
    categorical cross-entropy and accuracy.

    Args:
        image_size: height and width of the input in pixels.
        backbone: name of the base, a key of `BACKBONES`.
        weights: `"imagenet"`, `"concrete"` for the base that comes with the package, `"random"`,
            or the path of a weights file.
        augmentation: a layer from images to images. None for `build_augmentation()`.
        hidden_units: units of a ReLU layer between pooling and dropout. 0 for no such layer.
        dropout: share of the features before the softmax layer that is dropped in training, from
            0 to below 1.
        weight_decay: at each step every trained weight shrinks by this share times the learning
            rate, 0 or more (Loshchilov & Hutter 2017, arXiv:1711.05101).
        label_smoothing: share of each label that is spread over all classes, from 0 to below 1
            (Szegedy et al. 2015, arXiv:1512.00567). The losses of `fit` are then on smoothed
            labels. Do not compare them with losses on true labels.
        learning_rate: learning rate of Adam, above 0.
        classes: number of classes, `len(data.class_names)`.
        seed: seed of the head's weights, dropout and augmentation.

    Returns:
        A compiled `keras.Model` from float or uint8 RGB images of shape (batch, image_size,
        image_size, 3) in 0..255 to probabilities of shape (batch, classes). Its attributes
        `backbone` and `weights_origin` say which base it has and where its weights came from.

    Raises:
        UserError: when an argument cannot be used.

    Example:

    ```python
    model = build_model(image_size=160)
    model.summary()
    ```
    """
    check_share(dropout=dropout, label_smoothing=label_smoothing)
    check_at_least(0, hidden_units=hidden_units, weight_decay=weight_decay)
    check_at_least(2, classes=classes)
    keras.utils.set_random_seed(seed)
    image_size, backbone = check_size(image_size), backbone.lower()
    base, origin = build_backbone(backbone, image_size, weights)
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = (augmentation or build_augmentation())(inputs)
    x = BACKBONES[backbone].preprocessing()(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    if hidden_units:
        x = keras.layers.Dense(hidden_units, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(classes, activation="softmax", name="probabilities")(x)
    model = keras.Model(inputs, outputs, name="crackclf")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate, weight_decay=weight_decay or None),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        metrics=["accuracy"],
    )
    model.backbone, model.weights_origin = backbone, origin
    return model
