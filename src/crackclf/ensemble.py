"""Several trained models averaged into one."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from crackclf.errors import UserError, notice
from crackclf.model import digest_model
from crackclf.saving import load_keras_model, open_model


def build_ensemble(folders: Sequence[str | os.PathLike]) -> keras.Model:
    """Averages the calibrated probabilities of trained models in one Keras model.

    Members with the same frozen base share it: an ensemble of heads costs little more than one.

    Args:
        folders: two or more saved models of the same classes and image size.

    Returns:
        A compiled `keras.Model` from images of shape (batch, image_size, image_size, 3) in 0..255
        to probabilities of shape (batch, classes). It shares the layers of its members.

    Raises:
        UserError: when the members cannot be averaged.

    Examples:
        >>> model = build_ensemble([f"saved_models/seed-{seed}" for seed in range(3)])
        >>> save_run(model, "saved_models/ensemble", data, report, model.predict(data.test))
    """
    cards = [open_model(folder)[0] for folder in folders]
    kinds = {(card.class_names, card.positive_class, card.image_size) for card in cards}
    if len(folders) < 2 or len(kinds) > 1:
        found = f"{len(folders)}, of {sorted(map(str, kinds))}"
        expected = "two or more models of the same classes and image size"
        raise UserError(f"expected {expected}. Received: {found}.")
    if len({card.data_fingerprint for card in cards}) > 1:
        notice(
            "the members were trained on different images or splits: one may have seen the test "
            "images of another. Train all members on the folder load_datasets(...).split"
        )
    size = cards[0].image_size
    inputs = keras.Input((size, size, 3), name="image")
    features, outputs = {}, []
    for number, (folder, card) in enumerate(zip(folders, cards, strict=True)):
        model: Any = load_keras_model(folder)
        try:
            pooled = model.get_layer("pooling").output
            stem = keras.Model(model.input, pooled, name=f"stem_{number}")
            head = keras.Model(pooled, model.output, name=f"member_{number}")
        except ValueError:  # Not from build_model.
            stem = keras.layers.Identity()
            head = keras.Sequential([keras.Input((size, size, 3)), model], name=f"member_{number}")
        x: Any = head(features.setdefault(digest_model(stem), stem(inputs)))
        if card.temperature != 1:  # As `Card.calibrate` does it.
            logits: Any = keras.ops.log(keras.ops.clip(x, 1e-7, 1))
            x = keras.layers.Softmax()(logits / card.temperature)
        outputs.append(x)
    mean = keras.layers.Average(name="probabilities")(outputs)
    ensemble = keras.Model(inputs, mean, name="ensemble")
    # It is evaluated, not trained, so its optimizer needs no state.
    ensemble.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    counts = Counter(card.backbone for card in cards)
    ensemble.backbone = " + ".join(f"{n} x {name}" for name, n in counts.items())
    ensemble.weights_origin = "; ".join(dict.fromkeys(card.weights_origin for card in cards))
    return ensemble
