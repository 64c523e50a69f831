"""A saved model answers for files, folders and arrays."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from crackclf.cores import cores
from crackclf.errors import UserError, counted, notice, show
from crackclf.images.listing import Picture, Source, list_pictures
from crackclf.images.resize import resize
from crackclf.prediction.classifier import Classifier, as_classifier
from crackclf.saved.graph import SHARE

_MANY = 128  # Images from which on a progress bar is worth looking at.
_LARGE = 4  # Patches to the side of a picture above which it is hardly one.


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        file: the path of the image, or its number as text if it is no file.
        label: the predicted class. None for an image that cannot be read.
        probability: calibrated probability of the positive class, in 0..1. None for an image
            that cannot be read.
        error: why the image cannot be read. Empty for one that can.
        probabilities: calibrated probabilities of all classes, in the order of the model's
            `class_names`. Empty for an image that cannot be read.
    """

    file: str
    label: str | None
    probability: float | None
    error: str = ""
    probabilities: tuple[float, ...] = ()


def predict(
    images: Source | Iterable[Source], classifier: Classifier | str | os.PathLike = "shipped"
) -> list[Prediction]:
    """Predicts images one by one, whatever their size, on all cores.

    Args:
        images: a file, a folder (searched through all its sub-folders), an image of Pillow, an
            array of RGB images of shape (n, height, width, 3) or (height, width, 3) in 0..255, or
            several of these.
        classifier: from `load_model`, the folder of a saved model, or the word `shipped`.

    Returns:
        A `Prediction` for each image, in order. An image that cannot be read has an `error`.

    Raises:
        UserError: when a path does not exist, a folder holds no image, or an array is not of
            this form.

    Example:

    ```python
    for prediction in predict("site/photos"):
        print(prediction.file, prediction.label, prediction.probability)
    ```
    """
    pictures = list_pictures(images)
    card = (classifier := as_classifier(classifier)).card
    predictions: list[Prediction] = []
    for picture, answer in zip(pictures, ask(pictures, classifier), strict=True):
        if isinstance(answer, UserError):
            predictions.append(Prediction(picture.name, None, None, str(answer)))
        else:
            every = tuple(answer.tolist())
            label, score = card.name_class(answer), every[card.positive_index]
            predictions.append(Prediction(picture.name, label, score, "", every))
    return predictions


def ask(pictures: Sequence[Picture], classifier: Classifier) -> Iterator[np.ndarray | UserError]:
    """Asks a classifier about pictures: each core reads, resizes and answers for a few at a time.

    Args:
        pictures: from `list_pictures`.
        classifier: from `load_model`.

    Yields:
        For each picture in order its calibrated probabilities, float32 of shape (classes,), or
        why it could not be read.
    """
    side, large = classifier.card.image_size, _LARGE * (classifier.card.patch_size or 1)
    photos: list[str] = []

    def read(picture: Picture) -> np.ndarray | UserError:
        try:
            with picture.opened() as (image, _):
                if max(image.size) > large > _LARGE:
                    photos.append(picture.name)
                return resize(image, side, side)
        except UserError as error:
            return error

    def answer(part: Sequence[Picture]) -> list[np.ndarray | UserError]:
        images = [read(picture) for picture in part]
        whole = [image for image in images if not isinstance(image, UserError)]
        found = iter(classifier.probabilities(np.stack(whole)) if whole else ())
        return [
            image if isinstance(image, UserError) else _check(next(found), picture.name)
            for image, picture in zip(images, part, strict=True)
        ]

    parts = [pictures[i : i + SHARE] for i in range(0, len(pictures), SHARE)]
    if len(parts) == 1:
        yield from answer(parts[0])
    else:
        yield from _ask_all(answer, parts, len(pictures))
    if photos:
        notice(
            f"found {counted(len(photos), 'image')}, e.g. {show(min(photos))}, of more than "
            f"{_LARGE} times the size of the model's patches ({classifier.card.patch_size} pixels)."
            " Use `crackclf inspect` for whole photos"
        )


def _ask_all(
    answer: Callable[[Sequence[Picture]], list[np.ndarray | UserError]],
    parts: Sequence[Sequence[Picture]],
    total: int,
) -> Iterator[np.ndarray | UserError]:
    from tqdm import tqdm

    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=total, desc="Predicting", unit=" images", disable=total < _MANY) as bar,
    ):
        try:
            for answers in pool.map(answer, parts):
                yield from answers
                bar.update(len(answers))
        finally:
            pool.shutdown(cancel_futures=True)


def _check(probabilities: np.ndarray, name: str) -> np.ndarray | UserError:
    if np.isfinite(probabilities).all():
        return probabilities
    return UserError(f"{show(name)}: the model's probabilities are NaN or infinite")
