"""A saved model predicts images, is measured on labelled ones, and explains its answers."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from crackclf.errors import UserError, counted, notice, show
from crackclf.evaluation import Report, beware, compute_report
from crackclf.files import cores
from crackclf.folders import ImageFile, find_positive, is_split, merge_classes, read_folder
from crackclf.images import resize
from crackclf.listing import Picture, Source, list_pictures
from crackclf.litert import SHARE, Graph
from crackclf.saving import LITERT_FILE, SHIPPED_ORIGIN, Card, open_model, read_learnt

_MANY = 128  # Number of images from which on a progress bar is shown.
_LARGE = 4  # A picture of more patches than this to a side is taken for a whole photo.


@dataclass(frozen=True)
class Classifier:
    """A saved model, ready to predict. Threads may share it; it can be pickled and forked.

    Attributes:
        card: class names, threshold, temperature and origin.
        graph: from images (batch, height, width, 3) in 0..255 to logits by cell, float32 of shape
            (batch, rows, columns, classes).
    """

    card: Card
    graph: Callable[[np.ndarray], np.ndarray] = dataclasses.field(repr=False)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of patches, computed on all cores.

        Args:
            images: float or uint8 of shape (n, image_size, image_size, 3) in 0..255.

        Returns:
            float32 of shape (n, classes) in the order of `card.class_names`, rows summing to 1.
        """
        answer = lambda part: self.card.calibrate(self.graph(part).mean(axis=(1, 2)))
        return np.stack(list(_run_shares(answer, images, quiet=True)))


def load_model(folder: str | os.PathLike = "shipped") -> Classifier:
    """Loads a saved model to predict with. TensorFlow is not imported.

    The files are checked by their checksums. Load only models from people you trust.

    Args:
        folder: written by `save_model`, or the word `shipped`: the model inside the package.

    Returns:
        A `Classifier`.

    Raises:
        UserError: when the folder is not a saved model, or a file differs from its checksum.

    Examples:
        >>> classifier = load_model("saved_models/first")
        >>> print(classifier.card.class_names)
    """
    card, paths = open_model(folder)
    return Classifier(card, Graph(paths[LITERT_FILE].read_bytes()))


def as_classifier(model: Classifier | str | os.PathLike) -> Classifier:
    """Loads a model that is given by its folder; returns a `Classifier` as it is."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, str | os.PathLike):
        return load_model(model)
    received = f"Received: {type(model).__name__}."
    raise UserError(f"expected a Classifier from load_model, or a saved model's folder. {received}")


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        file: the path of the image, or its number as text if it is no file.
        label: the predicted class. None for an image that cannot be read.
        probability: of the positive class, calibrated, in 0..1. None for one that cannot be read.
        error: why the image cannot be read. Empty for one that can.
        probabilities: of all classes, in the order of `class_names`. Empty where there are none.
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
        images: a file, a folder with all its sub-folders, an image of Pillow, an RGB array of shape
            (n, height, width, 3) or (height, width, 3) in 0..255, or several of these.
        classifier: from `load_model`, the folder of a saved model, or the word `shipped`.

    Returns:
        A `Prediction` for each image, in order. An image that cannot be read has an `error`.

    Raises:
        UserError: when a path does not exist, a folder holds no image, or an array is of no images.

    Examples:
        >>> for prediction in predict("site/photos"):
        ...     print(prediction.file, prediction.label, prediction.probability)
    """
    pictures, classifier = list_pictures(images), as_classifier(classifier)
    card = classifier.card

    def describe(name: str, answer: np.ndarray | UserError) -> Prediction:
        if isinstance(answer, UserError):
            return Prediction(name, None, None, str(answer))
        every = tuple(answer.tolist())
        return Prediction(name, card.name_class(answer), every[card.positive_index], "", every)

    answers = predict_pictures(pictures, classifier)
    return [describe(x.name, answer) for x, answer in zip(pictures, answers, strict=True)]


def predict_pictures(
    pictures: Sequence[Picture], classifier: Classifier
) -> Iterator[np.ndarray | UserError]:
    """Yields the probabilities of each picture, float32 of shape (classes,), or why it has none."""
    side, patch = classifier.card.image_size, classifier.card.patch_size
    photos: list[str] = []

    def read(picture: Picture) -> np.ndarray | UserError:
        try:
            image = picture.read()
        except UserError as error:
            return error
        if patch and max(image.size) > _LARGE * patch:
            photos.append(picture.name)
        return resize(image, side, side)

    def answer(part: Sequence[Picture]) -> list[np.ndarray | UserError]:
        images = [read(picture) for picture in part]
        readable = [image for image in images if not isinstance(image, UserError)]
        found = iter(classifier.probabilities(np.stack(readable)) if readable else ())
        return [image if isinstance(image, UserError) else next(found) for image in images]

    yield from _run_shares(answer, pictures, quiet=len(pictures) < _MANY)
    if photos:
        notice(
            f"found {counted(len(photos), 'image')}, e.g. {show(min(photos))}, more than {_LARGE} "
            f"times as large as the model's patches ({patch} pixels): use `crackclf inspect`"
        )


def _run_shares(function: Callable[[Any], Iterable[Any]], items: Any, quiet: bool) -> Iterator[Any]:
    """Runs a function on a few items at a time, on all cores; yields its results one by one."""
    if len(items) <= SHARE:
        yield from function(items)
        return
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    parts = [items[i : i + SHARE] for i in range(0, len(items), SHARE)]
    bar = {"unit": " images", "unit_scale": SHARE, "disable": quiet}
    with ThreadPoolExecutor(cores()) as pool:
        try:
            for answers in tqdm(pool.map(function, parts), "Predicting", len(parts), **bar):
                yield from answers
        finally:
            pool.shutdown(cancel_futures=True)


def evaluate(
    directory: str | os.PathLike,
    classifier: Classifier | str | os.PathLike = "shipped",
    positive: str | None = None,
    skip_unreadable: bool = False,
) -> Report:
    """Measures a saved model on labelled images.

    Where images were in the training of the model, given by its folder, or of its base, the report
    has a `caution`: they make the figures too good.

    Args:
        directory: a folder with one sub-folder of images per class. For a model of two classes
            these may have other names: one holds the cracked images, all others sound ones.
        classifier: from `load_model`, the folder of a saved model, or the word `shipped`.
        positive: the class folder of the cracked images, or several, "a,b". None: told by its name.
        skip_unreadable: leave out, and list, files that cannot be read.

    Returns:
        A `Report` in the model's class names.

    Raises:
        UserError: when the images cannot be read or their classes are not known.

    Examples:
        >>> print(evaluate("data/bridge", "saved_models/first", positive="damaged"))
    """
    card = (ready := as_classifier(classifier)).card
    found, labels = _read_labelled(card, directory, positive, skip_unreadable)
    names = [str(image.path) for image in found]
    pictures = [Picture(name, image.path) for name, image in zip(names, found, strict=True)]
    answers = list(predict_pictures(pictures, ready))
    for error in (answer for answer in answers if isinstance(answer, UserError)):
        raise error
    fitted = card.positive_class, card.threshold
    report = compute_report(labels, np.array(answers), card.class_names, names, *fitted)
    if not isinstance(classifier, Classifier):
        learnt = read_learnt(classifier)
        report = beware(report, found, learnt, "this model's training or validation")
    return beware_base(report, card, found)


def beware_base(report: Report, model: Any, tested: Sequence[ImageFile]) -> Report:
    """Adds a caution where the base, by a model or its card, is that of the model in the box."""
    if SHIPPED_ORIGIN not in getattr(model, "weights_origin", ""):
        return report
    return beware(report, tested, read_learnt(), "the training of the base")


def _read_labelled(
    card: Card, directory: str | os.PathLike, positive: str | None, skip_unreadable: bool
) -> tuple[list[ImageFile], np.ndarray]:
    """Lists the images of class folders, and the index in the card of each one's class."""
    if is_split(directory):
        raise UserError(f"{directory}: is split; name the part to measure on, {directory}/test.")
    images, folders, _ = read_folder(directory, skip_unreadable)
    merged = {*map(str.strip, card.positive_class.split(","))} <= {*folders}
    folders = merge_classes(folders, positive or (card.positive_class if merged else None))
    if positive in (None, card.positive_class) and set(folders) <= set(card.class_names):
        index_of = [card.class_names.index(name) for name in folders]
    elif len(card.class_names) == 2:
        cracked, index = find_positive(folders, positive), card.positive_index
        index_of = [index if name == cracked else 1 - index for name in folders]
    else:
        raise UserError(
            f"{directory}: expected folders named as the model's classes, "
            f"{', '.join(card.class_names)}. Received: {', '.join(folders)}, {positive=}."
        )
    return images, np.array([index_of[image.label] for image in images])


def explain(image: Source, classifier: Classifier | str | os.PathLike = "shipped") -> np.ndarray:
    """Maps the evidence for a crack in one patch.

    It is the class activation map: the log-odds of each cell (Zhou et al. 2016, arXiv:1512.04150).
    Grad-CAM gives the same map here.

    Args:
        image: one patch of any size: a file, an image of Pillow, or an RGB array in 0..255.
        classifier: from `load_model`, the folder of a saved model, or the word `shipped`.

    Returns:
        float32 (height, width): the evidence at each pixel as a share of the strongest, in 0..1. It
        is 0 everywhere for a patch without evidence.

    Raises:
        UserError: when there is not one readable image, or the model answers for whole patches.

    Examples:
        >>> evidence = explain("patch.jpg")
    """
    pictures = list_pictures(image)
    if len(pictures) != 1:
        raise UserError(f"expected one patch to explain. Received: {len(pictures)} images.")
    picture, classifier = pictures[0].read(), as_classifier(classifier)
    card, side = classifier.card, classifier.card.image_size
    if not card.cell_size:
        raise UserError("this model (hidden units, an ensemble) answers for whole patches only.")
    strength = card.log_odds(classifier.graph(resize(picture, side, side)[None])[0])
    layer = Image.fromarray(np.maximum(strength, 0).astype(np.float32))
    evidence = np.asarray(layer.resize(picture.size, Image.Resampling.BICUBIC))
    return np.maximum(evidence, 0) / max(float(evidence.max()), 1e-6)
