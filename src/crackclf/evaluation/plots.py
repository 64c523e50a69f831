"""Pictures for notebooks and model folders; each function returns a matplotlib figure."""

import functools
import os
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.ticker import LogLocator, NullLocator

from crackclf.evaluation.metrics import calibration_error, reliability
from crackclf.evaluation.report import Misclassified, Report
from crackclf.images.decode import read_image

_RIGHT, _WRONG = "#1a7f37", "#b3261e"
# Fonts with the letters that matplotlib's own lacks, on the usual systems.
_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Microsoft YaHei", "SimHei", "Malgun Gothic", "Yu Gothic", "PingFang SC", "Hiragino Sans GB"),
    *("Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Arabic", "Nirmala UI"),
)


def _new(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
    )
    # Closed for pyplot only: a notebook then shows the returned figure once, not twice.
    plt.close(figure)
    return figure, axes


@functools.cache
def _letters() -> frozenset[int]:
    """The letters that can be drawn, after adding the fonts of this machine that have more."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    plt.rcParams["font.family"] += [name for name in _FONTS if name in known]
    paths = [
        font_manager.findfont(FontProperties(family=[name])) for name in plt.rcParams["font.family"]
    ]
    return frozenset(letter for path in paths for letter in get_font(path).get_charmap())


def _text(text: str) -> str:
    """Text without letters that would be drawn as boxes: they become backslash escapes."""
    letters = _letters()
    return "".join(x if ord(x) in letters or x == "\n" else ascii(x)[1:-1] for x in text)


def plot_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    colors: Sequence[str] | None = None,
    columns: int = 6,
) -> Figure:
    """Draws a grid of images.

    Args:
        images: arrays of shape (height, width, 3) in 0..255.
        titles: one above each.
        colors: of the titles.
        columns: images per row.
    """
    rows = max(1, -(-len(images) // columns))
    height = 1.95 + 0.22 * max((title.count("\n") for title in titles), default=0)
    figure, axes = _new(rows, columns, 1.7 * columns, height * rows)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, image, title) in enumerate(zip(axes.flat, images, titles, strict=False)):
        axis.imshow(np.clip(np.asarray(image), 0, 255).astype(np.uint8))
        color = colors[i] if colors else "black"
        # A title may be a file's name, in which $ is no formula.
        axis.set_title(_text(title), fontsize=8, color=color, parse_math=False)
    return figure


def plot_explanations(
    images: Sequence[np.ndarray],
    evidence: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int = 3,
) -> Figure:
    """Draws patches, each beside itself with the evidence for a crack laid over it.

    Args:
        images: arrays of shape (height, width, 3) in 0..255.
        evidence: of each, from `explain`.
        titles: one above each.
        columns: patches per row.
    """
    colours = plt.get_cmap("inferno")
    pairs = []
    for image, heat in zip(images, evidence, strict=True):
        share = 0.65 * heat[..., None]
        pairs += [image, (1 - share) * image + share * 255 * colours(heat)[..., :3]]
    doubled = [text for title in titles for text in (title, "evidence for a crack")]
    return plot_images(pairs, doubled, columns=2 * columns)


def plot_predictions(
    files: Sequence[str | os.PathLike],
    labels: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    columns: int = 6,
) -> Figure:
    """Draws images with their true and predicted class, green when right, red when wrong.

    Args:
        files: the images.
        labels: their true class names.
        predicted: their predicted class names.
        probabilities: of the positive class, in 0..1.
        columns: images per row.
    """
    return plot_images(
        [read_image(path) for path in files],
        [
            f"is {label}\nsaid {said} ({probability:.2f})"
            for label, said, probability in zip(labels, predicted, probabilities, strict=True)
        ],
        [_RIGHT if a == b else _WRONG for a, b in zip(labels, predicted, strict=True)],
        columns,
    )


def plot_misclassified(misclassified: Sequence[Misclassified], most: int = 12) -> Figure:
    """Draws the images on which a model is wrong, the most confidently wrong first.

    Args:
        misclassified: from `Report.misclassified`, of an evaluation that was given files.
        most: how many to draw.
    """
    shown = misclassified[:most]
    if not shown:
        figure, axes = _new(1, 1, 4, 1)
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0.5, 0.5, "no image is misclassified", ha="center", va="center")
        return figure
    return plot_predictions(
        [item.file for item in shown],
        [item.label for item in shown],
        [item.predicted for item in shown],
        [item.probability for item in shown],
    )


def plot_history(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draws loss and accuracy of training and validation against the epoch.

    Args:
        history: `keras.callbacks.History.history`.
    """
    figure, axes = _new(1, 2, 9, 3.4)
    for axis, name in zip(axes.flat, ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[name]) + 1)
        axis.plot(epochs, history[name], "o-", label="training")
        watched = history.get(f"val_{name}")
        if watched is not None:
            axis.plot(epochs, watched, "s-", label="validation")
        axis.set(xlabel="epoch", ylabel=name, title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if watched is not None:
            best = int(np.argmin(history["val_loss"])) + 1
            axis.axvline(best, color="grey", linestyle=":", label="best epoch")
        axis.legend()
    return figure


def plot_confusion_matrix(report: Report) -> Figure:
    """Draws the confusion matrix with counts.

    Args:
        report: from `compute_report`.
    """
    from sklearn import metrics as sk  # Slow to import; few plots need it.

    grown = 0.8 * (len(report.class_names) - 2)
    figure, axes = _new(1, 1, 4.4 + grown, 3.8 + grown)
    sk.ConfusionMatrixDisplay(
        np.array(report.confusion_matrix),
        display_labels=[_text(name) for name in report.class_names],
    ).plot(
        ax=axes[0, 0],
        cmap="Blues",
        values_format="d",
        colorbar=False,
        xticks_rotation=30 if grown else "horizontal",  # pyright: ignore[reportArgumentType]
    )
    axes[0, 0].set_title(f"accuracy {report.accuracy:.4f} on {report.n} images")
    return figure


def plot_calibration(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> Figure:
    """Draws how often a model is right against how sure it is, before and after calibration.

    Args:
        labels: int of shape (n,), class indices.
        before: float of shape (n, classes), the model's own probabilities.
        after: the same, calibrated.
    """
    figure, [[axis]] = _new(1, 1, 4.6, 4.4)
    axis.plot([0, 1], [0, 1], ":", color="grey")
    for name, marker, probabilities in (("before", "o", before), ("after", "s", after)):
        bins = reliability(labels, probabilities)
        error = calibration_error(labels, probabilities)
        label = f"{name}: calibration error {error:.4f}"
        axis.plot(bins[:, 0], bins[:, 1], marker + "-", label=label, alpha=0.8)
    lowest = 1 / before.shape[1]
    axis.set(xlabel="confidence", ylabel="share that is right", title="calibration")
    axis.set(xlim=(lowest - 0.02, 1.02), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    return figure


def plot_roc_pr(labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Draws the ROC curve and the precision-recall curve.

    Args:
        labels: bool of shape (n,), True where cracked.
        probabilities: float of shape (n,), of being cracked.
    """
    from sklearn import metrics as sk

    figure, axes = _new(1, 2, 9, 4)
    sk.RocCurveDisplay.from_predictions(labels, probabilities, ax=axes[0, 0], name="model")
    sk.PrecisionRecallDisplay.from_predictions(labels, probabilities, ax=axes[0, 1], name="model")
    axes[0, 0].set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    axes[0, 1].set(title="precision and recall", xlabel="recall", ylabel="precision")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    return figure


def plot_accuracy_cost(
    names: Sequence[str],
    accuracies: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    images_per_second: Sequence[float],
) -> Figure:
    """Draws what each of several models is worth against what it costs: best is above, right.

    Args:
        names: of the models.
        accuracies: in 0..1.
        intervals: of the accuracies, lower and upper end.
        images_per_second: at prediction.
    """
    figure, [[axis]] = _new(1, 1, 6.4, 4.2)
    for i, name in enumerate(names):
        low, high = intervals[i]
        axis.errorbar(
            images_per_second[i],
            accuracies[i],
            yerr=[[accuracies[i] - low], [high - accuracies[i]]],
            marker="o",
            capsize=4,
            label=name,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("images per second at prediction (logarithmic)")
    axis.set_ylabel("test accuracy, 95 % interval")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def plot_losses(losses: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draws the losses of several ways to train, a mark for each seed.

    Args:
        losses: by way, "validation" and "test", each a loss (nats) per seed.
    """
    figure, [[axis]] = _new(1, 1, 8, 1 + 0.42 * len(losses))
    styles = {"validation": ("o", "tab:blue", -0.15), "test": ("s", "tab:orange", 0.15)}
    for row, values in enumerate(losses.values()):
        for subset, (marker, color, shift) in styles.items():
            seeds, at = values[subset], row + shift
            label = subset if row == 0 else None
            axis.plot(seeds, [at] * len(seeds), marker, color=color, alpha=0.6, label=label)
            axis.plot(np.mean(seeds), at, "|", color=color, markersize=16, markeredgewidth=2)
    axis.set_yticks(range(len(losses)), list(losses))
    axis.invert_yaxis()
    axis.set_xlabel("loss; a mark for each seed, a bar at their mean")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    return figure
