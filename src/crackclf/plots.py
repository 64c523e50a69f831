"""Figures for notebooks and model folders; each function returns a matplotlib figure."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from crackclf.evaluation import Misclassified, Report, calibration_error, reliability
from crackclf.images import read_image

_RIGHT, _WRONG = "#1a7f37", "#b3261e"


def _new(rows: int, columns: int, *size: float) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    # Closed for pyplot only: a notebook then shows the returned figure once, not twice.
    plt.close(figure)
    return figure, axes.ravel()


def _label(axis: Any, xlabel: str, ylabel: str, title: str = "", **more: Any) -> None:
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, **more)
    axis.grid(alpha=0.3)


def _text(text: str) -> str:
    """Text in which letters that the font lacks are backslash escapes and not empty boxes."""
    letters = get_font(findfont(FontProperties())).get_charmap()
    return "".join(x if ord(x) in letters or x == "\n" else ascii(x)[1:-1] for x in text)


def plot_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    colors: Sequence[str] | None = None,
    columns: int = 6,
) -> Figure:
    """Draws a grid of images, each of shape (height, width, 3) in 0..255, below its title."""
    rows = max(1, -(-len(images) // columns))
    height = 1.95 + 0.22 * max((title.count("\n") for title in titles), default=0)
    figure, axes = _new(rows, columns, 1.7 * columns, height * rows)
    for i, (axis, image, title) in enumerate(zip(axes, images, titles, strict=False)):
        axis.imshow(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
        color = colors[i] if colors else "black"
        # A title may be a file's name, in which $ is no formula.
        axis.set_title(_text(title), fontsize=8, color=color, parse_math=False)
    plt.setp(axes, frame_on=False, xticks=[], yticks=[])
    return figure


def plot_explanations(
    images: Sequence[np.ndarray],
    evidence: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 3,
) -> Figure:
    """Draws patches, each beside itself with the evidence for a crack laid over it.

    The patches are of shape (height, width, 3) in 0..255; `evidence` is from `explain`.
    """
    pairs = []
    for image, heat in zip(images, evidence, strict=True):
        share = 0.65 * heat[..., None]
        heated = 255 * plt.get_cmap("inferno")(heat)[..., :3]
        pairs += [image, (1 - share) * image + share * heated]
    doubled = [text for title in titles for text in (title, "evidence for a crack")]
    return plot_images(pairs, doubled, columns=2 * columns)


def plot_predictions(
    files: Sequence[str | os.PathLike],
    labels: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    threshold: float | None = None,
    columns: int = 6,
) -> Figure:
    """Draws images with their true and predicted class, green when right, red when wrong.

    `probabilities`, and the threshold from which on they count, are those of the positive class.
    """
    rows = list(zip(labels, predicted, probabilities, strict=True))
    beside = "" if threshold is None else f", threshold {threshold:.2f}"
    titles = [f"true {label}\npredicted {given}\n{p:.2f}{beside}" for label, given, p in rows]
    colors = [_RIGHT if label == given else _WRONG for label, given, _ in rows]
    return plot_images([read_image(path) for path in files], titles, colors, columns)


def plot_misclassified(misclassified: Sequence[Misclassified], most: int = 12) -> Figure:
    """Draws the first `most` of `Report.misclassified`, if the report was given the files."""
    if shown := [(x.file, x.label, x.predicted, x.probability) for x in misclassified[:most]]:
        files, labels, predicted, probabilities = zip(*shown, strict=True)
        return plot_predictions(files, labels, predicted, probabilities)
    figure, [axis] = _new(1, 1, 4, 1)
    axis.set_axis_off()
    figure.suptitle("no image is misclassified")
    return figure


def plot_history(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draws loss and accuracy of training and validation against the epoch.

    `history` is from `read_curves` or `keras.callbacks.History.history`.
    """
    figure, axes = _new(1, 2, 9, 3.4)
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[name]) + 1)
        axis.plot(epochs, history[name], "o-", label="training")
        if f"val_{name}" in history:
            axis.plot(epochs, history[f"val_{name}"], "s-", label="validation")
            best = int(np.argmin(history["val_loss"])) + 1
            axis.axvline(best, color="grey", linestyle=":", label="best epoch")
        _label(axis, "epoch", name, name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
    return figure


def plot_confusion_matrix(report: Report) -> Figure:
    """Draws the confusion matrix of a report, with counts."""
    from sklearn import metrics as sk  # Slow to import; few plots need it.

    grown = 0.8 * (len(report.class_names) - 2)
    figure, [axis] = _new(1, 1, 4.4 + grown, 3.8 + grown)
    names = [_text(name) for name in report.class_names]
    sk.ConfusionMatrixDisplay(np.array(report.confusion_matrix), display_labels=names).plot(
        ax=axis, cmap="Blues", values_format="d", colorbar=False
    )
    axis.tick_params("x", rotation=30 if grown else 0)
    axis.set_title(f"accuracy {report.accuracy:.4f} on {report.n} images")
    return figure


def plot_calibration(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> Figure:
    """Draws how often a model is right against how sure it is, before and after calibration.

    Of class indices, int of shape (n,), and probabilities, float of shape (n, classes).
    """
    figure, [axis] = _new(1, 1, 4.6, 4.4)
    axis.plot([0, 1], [0, 1], ":", color="grey")
    for name, marker, probabilities in (("before", "o", before), ("after", "s", after)):
        confidence, right, _ = reliability(labels, probabilities).T
        label = f"{name}: calibration error {calibration_error(labels, probabilities):.4f}"
        axis.plot(confidence, right, marker + "-", label=label, alpha=0.8)
    limits = {"xlim": (1 / before.shape[1] - 0.02, 1.02), "ylim": (0, 1.02)}
    _label(axis, "confidence", "share that is right", "calibration", **limits)
    axis.legend(loc="lower right")
    return figure


def plot_roc_pr(labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Draws the ROC curve and the precision-recall curve.

    Of labels, bool of shape (n,), True where cracked, and probabilities of that, of shape (n,).
    """
    from sklearn import metrics as sk

    figure, [left, right] = _new(1, 2, 9, 4)
    sk.RocCurveDisplay.from_predictions(labels, probabilities, ax=left, name="model")
    sk.PrecisionRecallDisplay.from_predictions(labels, probabilities, ax=right, name="model")
    _label(left, "false positive rate", "true positive rate", "ROC")
    _label(right, "recall", "precision", "precision and recall")
    return figure
