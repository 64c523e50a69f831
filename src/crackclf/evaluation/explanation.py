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
    by the mean gradient of the log-odds of a crack with respect to it. The model in the box is
    explained by the first of its four mirrored views.

    Args:
        image: RGB, of shape (height, width, 3) in 0..255, any size.
        classifier: from `load_model`.

    Returns:
        float32 of shape (height, width): the evidence at each pixel as a share of the strongest,
        in 0..1; 0 everywhere when there is none.

    Raises:
        UserError: when the model is not a Keras model that pools its features by their mean, as
            an ensemble is not.

    Example:

    ```python
    evidence = explain(read_image("patch.jpg"), load_model())
    ```
    """
    card = classifier.card
    model: Any = classifier.model
    if isinstance(model, keras.Model):
        model = upright(model)
    pools = [layer for layer in getattr(model, "layers", []) if isinstance(layer, POOLING)]
    if len(pools) != 1 or pools[0].input is model.input or not _is_head(model.layers[-1]):
        raise UserError(
            "expected a Keras model with global average pooling, as build_model makes it; of "
            "another nobody knows which feature maps to show."
        )
    look: Any = keras.Model(model.input, [pools[0].input, model.layers[-1].input])
    head, at = model.layers[-1], card.class_names.index(card.positive_class)
    patch = tf.image.resize(image, (card.image_size, card.image_size))[None]
    with tf.GradientTape() as tape:
        features, before = look(patch, training=False)
        # Probabilities of 0 and 1 would have no gradient.
        logits = tf.matmul(before, head.kernel) + head.bias
        log_odds = logits[0, at] - logits[0, 1 - at]
    weights = tf.reduce_mean(tape.gradient(log_odds, features), axis=(1, 2), keepdims=True)
    strength = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    evidence = tf.image.resize(strength, image.shape[:2], "bicubic")[0, ..., 0].numpy()
    return np.maximum(evidence, 0) / max(evidence.max(), 1e-6)


def _is_head(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Dense) and layer.activation is keras.activations.softmax
