"""Labels and probabilities become the figures of a classifier."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crackclf.calibration import choose_classes, draw_groups, softmax, to_logits
from crackclf.errors import UserError, counted
from crackclf.folders import ImageFile, find_positive, is_uneven

_FEW = 30  # Images of a class below which a figure without an interval means little.
_DRAWS = 1000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Misclassified:
    """One image on which the model is wrong; `probability` is that of the positive class.

    Where no files were given, `file` is its index as text.
    """

    file: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class against all others, as in `Report`; `n` is its number of images."""

    name: str
    n: int
    precision: float
    precision_interval: Interval
    recall: float
    recall_interval: Interval
    f1: float
    auroc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class Report:
    """The figures of one evaluation.

    Attributes:
        n: number of images.
        class_names: in the order of the rows and columns of `confusion_matrix`.
        positive_class: the class that precision, recall, F1 and the curves are about, against all
            others.
        threshold: probability from which on an image is called positive.
        accuracy: share of images that are right.
        balanced_accuracy: mean of the classes' recalls.
        loss: categorical cross-entropy (nats).
        precision: share of the images called positive that are.
        recall: share of the positive images that are called so.
        accuracy_interval, precision_interval, recall_interval: 95 % Wilson score intervals.
        f1: harmonic mean of precision and recall.
        auroc: area under the ROC curve; None when all images are of one kind.
        average_precision: area under the precision-recall curve; None as for `auroc`.
        calibration_error: expected calibration error over 15 equal bins of confidence.
        confusion_matrix: counts, a row for each true class, a column for each predicted one.
        classification_report: scikit-learn's, as text.
        misclassified: the images that are wrong, the most confidently wrong first.
        temperature: the logits were divided by it before all of this.
        uncalibrated_loss, uncalibrated_calibration_error: those before that.
        classes: for each class its `name`, `n` and its own figures from precision on.
        caution: why the figures may be too good, in words; empty where nothing says so.
    """

    n: int
    class_names: tuple[str, ...]
    positive_class: str
    threshold: float
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    loss: float
    precision: float
    precision_interval: Interval
    recall: float
    recall_interval: Interval
    f1: float
    auroc: float | None
    average_precision: float | None
    calibration_error: float
    confusion_matrix: tuple[tuple[int, ...], ...]
    classification_report: str
    misclassified: tuple[Misclassified, ...]
    temperature: float
    uncalibrated_loss: float
    uncalibrated_calibration_error: float
    classes: tuple[ClassFigures, ...]
    caution: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        present = [x for x in self.classes if x.n]
        n = sum(x.n for x in present if x.name == self.positive_class)
        few, uneven = min(n, self.n - n) < _FEW, is_uneven([x.n for x in present])
        wrong, at = len(self.misclassified), f"threshold {self.threshold:.3g}"
        lines = [f"{counted(self.n, 'image')}, {wrong} misclassified at {at}"]
        accuracy = f"accuracy {_format(self.accuracy, self.accuracy_interval, '95 % interval ')}"
        balanced = f"balanced accuracy {self.balanced_accuracy:.4f}"
        if not uneven:
            lines.append(accuracy if few else f"{accuracy}, {balanced}")
        elif not few:
            lines.append(f"{balanced}, average precision {_format(self.average_precision)}")
        for x in present:
            precision = f"precision {_format(x.precision, x.precision_interval)}"
            recall = f"recall {_format(x.recall, x.recall_interval)}"
            areas = f"  AUROC {_format(x.auroc)}  average precision {_format(x.average_precision)}"
            if len(self.classes) > 2:
                areas = areas if x.n >= _FEW else ""
                lines.append(f"{x.name}: {counted(x.n, 'image')}  {recall}  {precision}{areas}")
            elif x.name == self.positive_class:
                lines.append(f"for {x.name}: {precision}, {recall}")
        error = f"loss {self.loss:.4f}, calibration error {self.calibration_error:.4f}"
        if self.temperature != 1:
            before = f"{self.uncalibrated_loss:.4f} and {self.uncalibrated_calibration_error:.4f}"
            error += f" (before calibration {before}, temperature {self.temperature:.2f})"
        rest = f"fewer than {_FEW} images of a class: other figures are left out"
        lines.append(rest if few else f"AUROC {_format(self.auroc)}, {error}")
        if uneven:
            counts = " and ".join(str(x.n) for x in present)
            lines.append(f"{accuracy} is misleading: the classes have {counts} images")
        lines += [f"caution: {self.caution}"] if self.caution else []
        return "\n".join(lines)


def _format(value: float | None, interval: Interval | None = None, what: str = "") -> str:
    if value is None:
        return "undefined (one class only)"
    return f"{value:.4f}" + (f" ({what}{interval[0]:.4f} to {interval[1]:.4f})" if interval else "")


def compute_report(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Sequence[str | os.PathLike] | None = None,
    positive: str | None = None,
    threshold: float | np.ndarray = 0.5,
    temperature: float | np.ndarray = 1.0,
) -> Report:
    """Computes a `Report` from labels and predicted probabilities.

    Both must come from one pass in one order, e.g. `data.labels["test"]` and
    `model.predict(data.test)`.

    Args:
        labels: int of shape (n,), class indices, or one-hot of shape (n, classes).
        probabilities: float of shape (n, classes), a column for each class, rows summing to 1.
        class_names: the class names in the order of the columns.
        files: the images' paths, to name those that are wrong.
        positive: the class that means cracked; found by its name when None.
        threshold: an image is called positive from this calibrated probability on, in 0..1. One
            number, or one for each image, of shape (n,).
        temperature: logits are divided by it before all else, above 0; from `calibrate`. One or
            n numbers too, of which the report has the median.

    Returns:
        A `Report`.

    Raises:
        UserError: when the shapes do not fit or the positive class cannot be told.

    Examples:
        >>> report = compute_report(data.labels["test"], model.predict(data.test), data.class_names)
        >>> print(report)
    """
    # Slow to import, and answering does not need it.
    from sklearn import metrics as sk

    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.shape == probabilities.shape:
        labels = labels.argmax(axis=1)
    n, k = len(labels), len(class_names)
    files = [str(file) for file in (range(n) if files is None else files)]
    if n == 0 or k < 2 or probabilities.shape != (n, k) or len(files) != n:
        raise UserError(
            "expected labels of shape (n,) with n > 0, two or more class names, probabilities of "
            f"shape (n, classes), and n files if any. Received: {labels.shape}, "
            f"{list(class_names)}, {probabilities.shape}, {len(files)} files."
        )
    if not np.isfinite(probabilities).all():
        raise UserError(
            "the probabilities hold NaN or infinity: training diverged. Lower the learning rate."
        )
    positive_class = find_positive(class_names, positive)
    p = list(class_names).index(positive_class)
    calibrated = probabilities
    if np.any(np.asarray(temperature) != 1):
        logits = to_logits(probabilities)
        calibrated = softmax(logits, np.reshape(temperature, (-1, 1))).astype(float)
    predicted = choose_classes(calibrated, p, threshold)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(calibrated[wrong, labels[wrong]], kind="stable")]
    matrix = sk.confusion_matrix(labels, predicted, labels=range(k))
    classes = []
    for c, name in enumerate(class_names):
        hits, found, present = int(matrix[c, c]), int(matrix[:, c].sum()), int(matrix[c].sum())
        rates = hits / max(found, 1), _wilson(hits, found)
        rates += hits / max(present, 1), _wilson(hits, present), 2 * hits / max(found + present, 1)
        areas = None, None
        if 0 < present < n:
            truth, scores = labels == c, calibrated[:, c]
            areas = sk.roc_auc_score(truth, scores), sk.average_precision_score(truth, scores)
            areas = tuple(map(float, areas))
        classes.append(ClassFigures(name, present, *rates, *areas))
    of_positive = dataclasses.asdict(classes[p])
    del of_positive["name"], of_positive["n"]
    true, called = ([class_names[i] for i in x.tolist()] for x in (labels, predicted))
    options: Any = {"labels": range(k), "target_names": list(class_names), "zero_division": 0}
    return Report(
        n=n,
        **of_positive,
        class_names=tuple(class_names),
        positive_class=positive_class,
        threshold=float(np.median(threshold)),
        accuracy=1 - len(wrong) / n,
        accuracy_interval=_wilson(n - len(wrong), n),
        balanced_accuracy=float(np.mean([x.recall for x in classes if x.n])),
        loss=_cross_entropy(labels, calibrated),
        calibration_error=calibration_error(labels, calibrated),
        confusion_matrix=tuple(map(tuple, matrix.tolist())),
        classification_report=str(sk.classification_report(labels, predicted, digits=4, **options)),
        misclassified=tuple(
            Misclassified(files[i], true[i], called[i], float(calibrated[i, p])) for i in wrong
        ),
        temperature=float(np.median(temperature)),
        uncalibrated_loss=_cross_entropy(labels, probabilities),
        uncalibrated_calibration_error=calibration_error(labels, probabilities),
        classes=tuple(classes),
    )


def beware(report: Report, tested: Sequence[ImageFile], learnt: set[str], whose: str) -> Report:
    """Adds a caution: how many images tested on were learnt from, by digest; the accuracy without.

    `whose` says what learnt from them, e.g. "this model's training".
    """
    others = {str(image.path) for image in tested if image.digest not in learnt}
    if len(others) == len(tested):
        return report
    seen = f"{len(tested) - len(others):,} of {counted(len(tested), 'image')} were in {whose}"
    caution = f"{report.caution} {seen}, so the figures are too good".lstrip()
    wrong = {image.file for image in report.misclassified}
    if others and wrong <= {str(image.path) for image in tested}:  # The report knows the files.
        n, right = len(others), len(others - wrong)
        caution += f". The accuracy on the other {n:,} is {_format(right / n, _wilson(right, n))}"
    return dataclasses.replace(report, caution=f"{caution}.")


def _wilson(k: int, n: int) -> Interval:
    from scipy.stats import binomtest

    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return float(low), float(high)


def _cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    # Clipped as Keras clips, so that both report the same loss.
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)).mean())


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error, 0..1, by `reliability` (Guo et al. 2017, arXiv:1706.04599)."""
    confidence, right, count = reliability(labels, probabilities).T
    return float(np.abs((confidence - right) * count).sum() / len(labels))


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> np.ndarray:
    """Mean confidence, share of the images that is right, and their number, in bins of confidence.

    Float of shape (bins, 3); the bins are of equal width, empty ones left out.
    """
    confidence = probabilities.max(axis=1)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    columns = np.stack([confidence, probabilities.argmax(axis=1) == labels, np.ones(len(labels))])
    sums = np.stack([np.bincount(bin_of, column, bins) for column in columns], axis=1)
    sums = sums[sums[:, 2] > 0]
    return np.hstack([sums[:, :2] / sums[:, 2:], sums[:, 2:]])


def group_intervals(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: Sequence[object],
    threshold: float | np.ndarray = 0.5,
) -> dict[str, Interval]:
    """95 % intervals of "auroc" and "balanced_accuracy" for images that come in groups.

    Patches of one photo are not independent. So whole groups are drawn: the percentile bootstrap
    (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). `labels` is bool of
    shape (n,), True where cracked; `scores` float, the probability of that; `groups` n keys, e.g.
    photo numbers; `threshold` of shape () or (n,).
    """
    cracked, called = np.asarray(labels, bool), scores >= threshold
    values, rank = np.unique(scores, return_inverse=True)
    drawn: dict[str, list[float]] = {"auroc": [], "balanced_accuracy": []}
    for times in draw_groups(groups, _DRAWS):
        positive, negative = times * cracked, times * ~cracked
        n, m = positive.sum(), negative.sum()
        if n and m:
            # The area by ranks (Mann & Whitney 1947): scikit-learn's is many times slower.
            by_score = np.bincount(rank, negative, len(values))
            below = by_score.cumsum() - by_score / 2
            drawn["auroc"].append(float(positive @ below[rank] / n / m))
            drawn["balanced_accuracy"].append((positive @ called / n + negative @ ~called / m) / 2)
    low, high = np.quantile([*drawn.values()], (0.025, 0.975), axis=1).tolist()
    return {name: (low[i], high[i]) for i, name in enumerate(drawn)}
