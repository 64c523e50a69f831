"""Why a classifier calls a patch cracked: where in it the evidence lies."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError
from crackclf.models.dense import POOLING, upright
from crackclf.models.saving import Classifier


def explain(image: np.ndarray, classifier: Classifier) -> np.ndarray:
    """Says where in one patch the evidence for a crack lies, by Grad-CAM.

    Selvaraju et al. 2017, arXiv:1610.02391: the feature maps that the model pools, each weighed
    by the mean gradient of the log-odds of a crack with respect to it; of an ensemble the sum
    over its members. The model in the box is explained by the first of its four mirrored views.

    Args:
        image: RGB, of shape (height, width, 3) in 0..255, any size.
        classifier: from `load_model`.

    Returns:
        float32 of shape (height, width): the evidence at each pixel as a share of the strongest,
        in 0..1; 0 everywhere when there is none.

    Raises:
        UserError: when the model is not a Keras model that pools its features by their mean.

    Example:

    ```python
    evidence = explain(read_image("patch.jpg"), load_model())
    ```
    """
    card = classifier.card
    layers = getattr(classifier.model, "layers", [])
    if not any(isinstance(layer, POOLING) for layer in layers):
        raise UserError(
            "expected a Keras model with global average pooling, as build_model makes it; of "
            "another nobody knows which feature maps to show."
        )
    model: Any = upright(classifier.model)  # pyright: ignore[reportArgumentType]
    maps = [pool.input for pool in model.layers if isinstance(pool, POOLING)]
    look: Any = keras.Model(model.input, [*maps, model.output])
    at = card.class_names.index(card.positive_class)
    patch = tf.image.resize(image, (card.image_size, card.image_size))[None]
    with tf.GradientTape() as tape:
        *features, probabilities = look(patch, training=False)
        log_odds = tf.math.log(probabilities[0, at]) - tf.math.log(probabilities[0, 1 - at])
    evidence = np.zeros(image.shape[:2], np.float32)
    gradients: Any = tape.gradient(log_odds, features)
    for feature, gradient in zip(features, gradients, strict=True):
        weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
        strength = tf.nn.relu(tf.reduce_sum(weights * feature, axis=-1, keepdims=True))
        evidence += tf.image.resize(strength, image.shape[:2], "bicubic")[0, ..., 0].numpy()
    evidence = np.maximum(evidence, 0)
    return evidence / max(evidence.max(), 1e-6)
