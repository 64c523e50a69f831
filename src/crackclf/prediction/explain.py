"""Where in a patch the evidence for a crack lies."""

import os

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.images.listing import Source, list_pictures
from crackclf.images.resize import resize
from crackclf.prediction.classifier import Classifier, as_classifier
from crackclf.saved.card import to_logits

_COVERS = 7  # Squares along a side of the patch that are covered one after another.


def explain(image: Source, classifier: Classifier | str | os.PathLike = "shipped") -> np.ndarray:
    """Maps the evidence for a crack in one patch.

    For a model that answers by cells, the evidence is the class activation map: the log-odds of
    each cell (Zhou et al. 2016, arXiv:1512.04150). With average pooling and a linear head, Grad-CAM
    gives the same map. For another model it is the drop in log-odds when a place is covered
    (occlusion: Zeiler & Fergus 2014, arXiv:1311.2901).

    Args:
        image: one patch of any size: a file, an image of Pillow, or an RGB array of shape (height,
            width, 3) in 0..255.
        classifier: from `load_model`, the folder of a saved model, or the word `shipped`.

    Returns:
        float32 of shape (height, width): the evidence at each pixel as a share of the strongest,
        in 0..1. It is 0 everywhere for a patch without evidence.

    Raises:
        UserError: when there is not one image, or it cannot be read.

    Example:

    ```python
    evidence = explain("patch.jpg")
    ```
    """
    pictures = list_pictures(image)
    if len(pictures) != 1:
        raise UserError(f"expected one patch to explain. Received: {len(pictures)} images.")
    pixels = pictures[0].pixels()
    classifier = as_classifier(classifier)
    side = classifier.card.image_size
    patch = resize(pixels, side, side)
    if classifier.card.cell_size:
        strength = classifier.card.log_odds(classifier.graph(patch[None])[0])
    else:
        strength = _cover(patch, classifier)
    height, width = pixels.shape[:2]
    layer = Image.fromarray(np.maximum(strength, 0).astype(np.float32))
    evidence = np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    return np.maximum(evidence, 0) / max(float(evidence.max()), 1e-6)


def _cover(patch: np.ndarray, classifier: Classifier) -> np.ndarray:
    """By how much the log-odds of a crack fall when a square of the patch is made grey."""
    edges = np.linspace(0, len(patch), _COVERS + 1).astype(int)
    covered = np.repeat(patch[None], _COVERS**2, axis=0)
    for number, image in enumerate(covered):
        row, column = divmod(number, _COVERS)
        image[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = patch.mean((0, 1))
    probabilities = classifier.probabilities(np.concatenate([patch[None], covered]))
    # Calibrated already, which `log_odds` expects not to be.
    card = classifier.card
    odds = card.log_odds(card.temperature * to_logits(probabilities)) / card.temperature
    return (odds[0] - odds[1:]).reshape(_COVERS, _COVERS)
