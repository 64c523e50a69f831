"""Fitting a compiled model."""

from collections.abc import Sequence

import keras
import numpy as np

from crackclf.data.datasets import Datasets
from crackclf.errors import UserError


def train(
    model: keras.Model,
    data: Datasets,
    callbacks: Sequence[keras.callbacks.Callback],
    epochs: int = 10,
) -> keras.callbacks.History:
    """Trains a compiled model on the training set, watched on the validation set.

    Args:
        model: from `build_model`.
        data: from `load_datasets`, at the model's image size.
        callbacks: from `build_callbacks`.
        epochs: at most this many passes over the training set.

    Returns:
        Keras' `History`.

    Raises:
        UserError: when the sizes do not fit or the loss stops being a number.

    Example:

    ```python
    history = train(model, data, build_callbacks("logs/first"))
    ```
    """
    if model.input_shape[1] != data.image_size:
        raise UserError(
            f"the model takes images of {model.input_shape[1]} pixels, the data were loaded at "
            f"{data.image_size}; give both the same image_size."
        )
    history = model.fit(
        data.train,
        validation_data=data.validation,
        epochs=epochs,
        callbacks=list(callbacks),
        shuffle=False,  # The set shuffles itself; Keras warns when asked to do it.
    )
    if not np.isfinite(history.history.get("loss", [0])).all():
        raise UserError("the training loss is no longer a number; try a smaller learning rate.")
    return history
