"""A saved model answers for files, folders and arrays."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from crackclf.data.images import FORMATS, read_image
from crackclf.errors import UserError
from crackclf.models.saving import Classifier

_BATCH = 64
_MANY = 500  # Images from which on building the fast engine pays.


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        file: its path; its index as text when it came as an array.
        label: the predicted class; None when the image could not be read.
        probability: of the positive class, in 0..1; None likewise.
        error: why the image could not be read; empty when it could.
    """

    file: str
    label: str | None
    probability: float | None
    error: str = ""


def predict(
    images: np.ndarray | str | os.PathLike | Iterable[str | os.PathLike],
    classifier: Classifier,
) -> list[Prediction]:
    """Predicts images one by one, whatever their size.

    Args:
        images: a file, a folder (searched for images through all its sub-folders), several of
            these, or an array of RGB images of shape (n, height, width, 3) or (height, width,
            3), float or uint8 in 0..255.
        classifier: from `load_model`.

    Returns:
        A `Prediction` for each image in order. One that cannot be read has its `error` set and
        does not stop the others.

    Raises:
        UserError: when a path does not exist, a folder holds no image, or an array is not of
            this form.

    Example:

    ```python
    for prediction in predict("site/photos", load_model("saved_models/first")):
        print(prediction.file, prediction.label, prediction.probability)
    ```
    """
    if isinstance(images, np.ndarray):
        stack = images[None] if images.ndim == 3 else images
        if stack.ndim != 4 or stack.shape[-1] != 3:
            raise UserError(
                "expected RGB images of shape (n, height, width, 3) or (height, width, 3) in "
                f"0..255. Received: shape {images.shape}."
            )
        resized = ((str(i), resize(x, classifier.card.image_size)) for i, x in enumerate(stack))
        return _predict(resized, len(stack), classifier)
    paths = find_images([images] if isinstance(images, str | os.PathLike) else list(images))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # A batch is decoded while the one before it is predicted; never more than two are held.
        return _predict(
            _read_ahead(pool, paths, classifier.card.image_size), len(paths), classifier
        )


def find_images(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """Lists the image files that paths name: files as they are, folders through and through.

    Args:
        paths: files and folders.

    Returns:
        The files, those of each folder sorted.

    Raises:
        UserError: when a path does not exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in FORMATS
                and not file.is_dir()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
            if not inside:
                raise UserError(
                    f"{path}: holds no image. Expected files ending in {', '.join(FORMATS)}."
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder.")
    if not found:
        raise UserError("no image was named. Expected at least one file or folder.")
    return found


def _read_ahead(
    pool: ThreadPoolExecutor, paths: Sequence[Path], image_size: int
) -> Iterator[tuple[str, np.ndarray | UserError]]:
    def read(path: Path) -> tuple[str, np.ndarray | UserError]:
        try:
            return str(path), resize(read_image(path), image_size)
        except UserError as error:
            return str(path), error

    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    waiting = [pool.submit(read, path) for path in batches[0]]
    for i in range(len(batches)):
        ready, waiting = waiting, []
        if i + 1 < len(batches):
            waiting = [pool.submit(read, path) for path in batches[i + 1]]
        for future in ready:
            yield future.result()


def _predict(
    images: Iterable[tuple[str, np.ndarray | UserError]], total: int, classifier: Classifier
) -> list[Prediction]:
    from tqdm import tqdm

    card = classifier.card
    positive = card.class_names.index(card.positive_class)
    predictions: list[Prediction] = []
    batch: list[tuple[str, np.ndarray | UserError]] = []
    quick = total >= _MANY or "fast" in vars(classifier)
    ask = classifier.fast if quick else classifier.probabilities

    def flush() -> None:
        pixels = [image for _, image in batch if not isinstance(image, UserError)]
        scores = iter(ask(np.stack(pixels))[:, positive] if pixels else ())
        for name, image in batch:
            if isinstance(image, UserError):
                predictions.append(Prediction(name, None, None, str(image)))
                continue
            score = float(next(scores))
            said = positive if score >= card.threshold else 1 - positive
            predictions.append(Prediction(name, card.class_names[said], score))
        batch.clear()

    for item in tqdm(images, "Predicting", total, unit=" images", disable=total < 2 * _BATCH):
        batch.append(item)
        if len(batch) == _BATCH:
            flush()
    flush()
    return predictions


def resize(image: np.ndarray, image_size: int) -> np.ndarray:
    """An image of shape (height, width, 3) as the model takes it: as Keras' loader resizes it."""
    if image.shape[:2] == (image_size, image_size):
        return image
    return tf.image.resize(image, (image_size, image_size)).numpy()
