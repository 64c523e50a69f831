"""A saved model is measured on labelled images that it may never have seen."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from crackclf.data.folders import ImageFile, find_positive, is_split, read_folder, report_skipped
from crackclf.errors import UserError, counted, notice
from crackclf.evaluation.metrics import compute_report
from crackclf.evaluation.report import Report
from crackclf.images.listing import Picture, Source, list_pictures
from crackclf.prediction.classifier import Classifier, as_classifier
from crackclf.prediction.predict import ask
from crackclf.saved.card import Card
from crackclf.saved.store import model_folder


def evaluate(
    images: Source | Iterable[Source],
    classifier: Classifier | str | os.PathLike = "shipped",
    labels: Sequence[str] | None = None,
    positive: str | None = None,
    skip_unreadable: bool = False,
) -> Report:
    """Measures a saved model on labelled images.

    Images that the model was trained on make the figures too good. If the model is given by its
    folder, they are counted in a notice.

    Args:
        images: a folder with one sub-folder of images per class. With `labels`: files, folders,
            images of Pillow, or RGB arrays of shape (height, width, 3) in 0..255. For a model of
            two classes the folders may have other names: the folder `positive` holds the cracked
            images, all other folders hold sound ones.
        classifier: from `load_model`, the folder of a saved model, or the word `shipped`.
        labels: the class name of each image, if the images are not in class folders.
        positive: the class folder that holds the cracked images; found by its name when None.
        skip_unreadable: leave out, and list, files in class folders that cannot be read.

    Returns:
        A `Report` in the model's class names.

    Raises:
        UserError: when the images cannot be read or their labels are not known.

    Example:

    ```python
    print(evaluate("data/bridge", "saved_models/first", positive="damaged"))
    ```
    """
    ready = as_classifier(classifier)
    card = ready.card
    if labels is None:
        if not isinstance(images, str | os.PathLike):
            raise UserError("expected a folder with one sub-folder per class, or labels=.")
        found, classes = read_labelled(card, images, positive, skip_unreadable)
        pictures = [Picture(str(image.path), image.path) for image in found]
        if not isinstance(classifier, Classifier):
            _tell_of_seen([image.digest for image in found], read_split(model_folder(classifier)))
    else:
        pictures = list_pictures(images)
        if len(labels) != len(pictures) or not set(labels) <= set(card.class_names):
            raise UserError(
                f"expected a label for each of {len(pictures)} images, one of "
                f"{list(card.class_names)}. Received: {len(labels)}, {sorted(set(labels))[:5]}."
            )
        classes = np.array([card.class_names.index(label) for label in labels])
    answers = []
    for answer in ask(pictures, ready):
        if isinstance(answer, UserError):
            raise answer
        answers.append(answer)
    return compute_report(
        classes,
        np.stack(answers),
        card.class_names,
        [picture.name for picture in pictures],
        card.positive_class,
        card.threshold,
    )


def read_labelled(
    card: Card, directory: str | os.PathLike, positive: str | None, skip_unreadable: bool = False
) -> tuple[list[ImageFile], np.ndarray]:
    """Lists the images of class folders, with the index of each one's class in the card.

    `positive` names the cracked folder where the names are not those of the card, which has two
    classes then.
    """
    if is_split(directory):
        raise UserError(f"{directory}: is split; name the part to measure on, {directory}/test.")
    images, folders, skipped = read_folder(directory, skip_unreadable)
    report_skipped(skipped)
    if positive in (None, card.positive_class) and set(folders) <= set(card.class_names):
        index_of = [card.class_names.index(name) for name in folders]
    elif len(card.class_names) == 2:
        cracked = find_positive(folders, positive)
        sound = 1 - card.positive_index
        index_of = [card.positive_index if name == cracked else sound for name in folders]
    else:
        raise UserError(
            f"{directory}: expected folders named as the model's classes, "
            f"{', '.join(card.class_names)}, of which {card.positive_class} is the cracked one. "
            f"Received: {', '.join(folders)}{f', positive={positive!r}' if positive else ''}."
        )
    return images, np.array([index_of[image.label] for image in images])


def read_split(folder: str | os.PathLike) -> dict[str, str]:
    """The subset of each image that a model was trained and tested on, by the image's digest.

    Empty when the model's folder does not say; a damaged file is reported.
    """
    split = Path(folder) / "split.csv"
    try:
        with split.open(newline="", encoding="utf-8") as file:
            return {row["digest"]: row["subset"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        pass
    except (OSError, KeyError, ValueError, csv.Error):
        notice(f"{split}: is damaged, so it does not say which images this model was trained on")
    return {}


def _tell_of_seen(digests: list[str], split: dict[str, str]) -> None:
    count = sum(split.get(digest, "test") != "test" for digest in digests)
    if count:
        notice(
            f"{count} of {counted(len(digests), 'image')} were in this model's training or "
            "validation set, so the figures are too good"
        )
