"""Labels and probabilities become the figures of a two-class classifier."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crackclf.data.folders import find_positive
from crackclf.errors import UserError


@dataclass(frozen=True)
class Misclassified:
    """One image on which the model is wrong.

    Attributes:
        file: its path; its index as text when no files were given.
        label: the class it has.
        predicted: the class it was given.
        probability: of the positive class, in 0..1.
    """

    file: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Report:
    """The figures of one evaluation.

    Attributes:
        n: number of images.
        class_names: in the order of the rows and columns of `confusion_matrix`.
        positive_class: the class that precision, recall, F1 and the curves are about.
        threshold: probability from which on an image is called positive.
        accuracy: share of images that are right.
        accuracy_interval: 95 % Wilson score interval of the accuracy.
        balanced_accuracy: mean of the two classes' recalls.
        loss: categorical cross-entropy (nats).
        precision: share of the images called positive that are.
        recall: share of the positive images that are found.
        f1: harmonic mean of precision and recall.
        auroc: area under the ROC curve; None when only one class is present.
        average_precision: area under the precision-recall curve; None as for `auroc`.
        calibration_error: expected calibration error over 15 equal bins of confidence.
        confusion_matrix: counts, a row for each true class, a column for each predicted one.
        classification_report: scikit-learn's, as text.
        misclassified: the images that are wrong, the most confidently wrong first.
    """

    n: int
    class_names: tuple[str, ...]
    positive_class: str
    threshold: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    loss: float
    precision: float
    recall: float
    f1: float
    auroc: float | None
    average_precision: float | None
    calibration_error: float
    confusion_matrix: tuple[tuple[int, ...], ...]
    classification_report: str
    misclassified: tuple[Misclassified, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as what JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        auroc = "undefined (one class only)" if self.auroc is None else f"{self.auroc:.4f}"
        return "\n".join(
            [
                f"{self.n} images, {len(self.misclassified)} misclassified at threshold "
                f"{self.threshold:g}",
                f"accuracy {self.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), "
                f"balanced {self.balanced_accuracy:.4f}",
                f"loss {self.loss:.4f}, calibration error {self.calibration_error:.4f}",
                f"AUROC {auroc}; for {self.positive_class}: precision {self.precision:.4f}, "
                f"recall {self.recall:.4f}, F1 {self.f1:.4f}",
            ]
        )


def compute_report(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Sequence[str | os.PathLike] | None = None,
    positive: str | None = None,
    threshold: float = 0.5,
) -> Report:
    """Computes a `Report` from labels and predicted probabilities.

    Both must come from one pass in one order, e.g. `data.labels["test"]` and
    `model.predict(data.test)`.

    Args:
        labels: int of shape (n,), class indices, or one-hot of shape (n, 2).
        probabilities: float of shape (n, 2), a column for each class, rows summing to 1.
        class_names: the two class names in the order of the columns.
        files: the images' paths, to name those that are wrong.
        positive: the class that means cracked; found by its name when None.
        threshold: probability of the positive class from which on an image is called so.

    Returns:
        A `Report`.

    Raises:
        UserError: when the shapes do not fit or the positive class cannot be told.

    Example:

    ```python
    report = compute_report(data.labels["test"], model.predict(data.test), data.class_names)
    print(report)
    ```
    """
    # Slow to import, and answering does not need them.
    from scipy.stats import binomtest
    from sklearn import metrics as sk

    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.shape == probabilities.shape:
        labels = labels.argmax(axis=1)
    n = len(labels)
    if n == 0 or probabilities.shape != (n, 2) or len(class_names) != 2:
        raise UserError(
            "expected labels of shape (n,) with n > 0, probabilities of shape (n, 2) and two "
            f"class names. Received: {labels.shape}, {probabilities.shape}, {list(class_names)}."
        )
    if files is not None and len(files) != n:
        raise UserError(f"expected as many files as labels ({n}). Received: {len(files)}.")
    if not np.isfinite(probabilities).all():
        raise UserError(
            "the probabilities hold NaN or infinity: training diverged. Try a smaller learning "
            "rate."
        )
    positive_class = find_positive(class_names, positive)
    p = list(class_names).index(positive_class)
    score = probabilities[:, p]
    predicted = np.where(score >= threshold, p, 1 - p)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-np.abs(score[wrong] - threshold), kind="stable")]
    interval = binomtest(n - len(wrong), n).proportion_ci(method="wilson")
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        labels == p,
        predicted == p,
        average="binary",
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    recalls = [float((predicted[labels == c] == c).mean()) for c in np.unique(labels)]
    both = len(recalls) == 2
    return Report(
        n=n,
        class_names=tuple(class_names),
        positive_class=positive_class,
        threshold=float(threshold),
        accuracy=1 - len(wrong) / n,
        accuracy_interval=(float(interval.low), float(interval.high)),
        balanced_accuracy=float(np.mean(recalls)),
        # Clipped as Keras clips, so that both report the same loss.
        loss=float(-np.log(np.clip(probabilities[np.arange(n), labels], 1e-7, 1)).mean()),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        auroc=float(sk.roc_auc_score(labels == p, score)) if both else None,
        average_precision=float(sk.average_precision_score(labels == p, score)) if both else None,
        calibration_error=calibration_error(labels, probabilities),
        confusion_matrix=tuple(
            tuple(row) for row in sk.confusion_matrix(labels, predicted, labels=[0, 1]).tolist()
        ),
        classification_report=str(
            sk.classification_report(
                labels,
                predicted,
                labels=[0, 1],
                target_names=list(class_names),
                digits=4,
                zero_division=0,  # pyright: ignore[reportArgumentType]
            )
        ),
        misclassified=tuple(
            Misclassified(
                file=str(files[i]) if files is not None else str(i),
                label=class_names[int(labels[i])],
                predicted=class_names[int(predicted[i])],
                probability=float(score[i]),
            )
            for i in wrong
        ),
    )


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.

    Args:
        labels: int of shape (n,), class indices.
        probabilities: float of shape (n, classes).
        bins: number of equal bins of confidence.

    Returns:
        The gap averaged over the images, in 0..1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(bin_of, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))
