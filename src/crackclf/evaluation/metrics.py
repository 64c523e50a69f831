"""Labels and probabilities become the figures of a classifier."""

import os
from collections.abc import Sequence

import numpy as np

from crackclf.data.folders import find_positive
from crackclf.errors import UserError
from crackclf.evaluation.report import ClassFigures, Interval, Misclassified, Report
from crackclf.saved.card import choose_classes, softmax, to_logits


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
        temperature: logits are divided by it before all else, above 0; from `calibrate`. One
            number, or one for each image, of shape (n,). The report then has the median.

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
    # Slow to import, and answering does not need it.
    from sklearn import metrics as sk

    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.shape == probabilities.shape:
        labels = labels.argmax(axis=1)
    n, k = len(labels), len(class_names)
    if n == 0 or k < 2 or probabilities.shape != (n, k):
        raise UserError(
            "expected labels of shape (n,) with n > 0, two or more class names, and probabilities "
            f"of shape (n, classes). Received: {labels.shape}, {list(class_names)}, "
            f"{probabilities.shape}."
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
    said = probabilities
    if np.any(np.asarray(temperature) != 1):
        said = softmax(to_logits(probabilities), np.reshape(temperature, (-1, 1))).astype(float)
    score = said[:, p]
    predicted = choose_classes(said, p, threshold)
    wrong = np.flatnonzero(predicted != labels)
    # By how far the probability is on the wrong side of the threshold; of two sound classes, by how
    # far the wrong one's is above the right one's.
    rows = np.arange(n)
    margin = np.where(
        (predicted == p) == (labels == p),
        said[rows, predicted] - said[rows, labels],
        np.abs(score - threshold),
    )
    wrong = wrong[np.argsort(-margin[wrong], kind="stable")]
    classes = tuple(
        _measure_class(name, labels == c, predicted == c, said[:, c])
        for c, name in enumerate(class_names)
    )
    accuracy = _share(n - len(wrong), n)
    assert accuracy is not None
    return Report(
        n=n,
        class_names=tuple(class_names),
        positive_class=positive_class,
        threshold=float(np.median(threshold)),
        accuracy=1 - len(wrong) / n,
        accuracy_interval=accuracy,
        balanced_accuracy=float(np.mean([x.recall for x in classes if x.n])),
        loss=_cross_entropy(labels, said),
        precision=classes[p].precision,
        precision_interval=classes[p].precision_interval,
        recall=classes[p].recall,
        recall_interval=classes[p].recall_interval,
        f1=classes[p].f1,
        auroc=classes[p].auroc,
        average_precision=classes[p].average_precision,
        calibration_error=calibration_error(labels, said),
        confusion_matrix=tuple(
            tuple(row) for row in sk.confusion_matrix(labels, predicted, labels=range(k)).tolist()
        ),
        classification_report=str(
            sk.classification_report(
                labels,
                predicted,
                labels=range(k),
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
        temperature=float(np.median(temperature)),
        uncalibrated_loss=_cross_entropy(labels, probabilities),
        uncalibrated_calibration_error=calibration_error(labels, probabilities),
        classes=classes,
    )


def _measure_class(
    name: str, has: np.ndarray, given: np.ndarray, score: np.ndarray
) -> ClassFigures:
    from sklearn import metrics as sk

    n, found, hits = int(has.sum()), int(given.sum()), int((has & given).sum())
    both = 0 < n < len(has)
    return ClassFigures(
        name=name,
        n=n,
        precision=hits / found if found else 0.0,
        precision_interval=_share(hits, found),
        recall=hits / n if n else 0.0,
        recall_interval=_share(hits, n),
        f1=2 * hits / (n + found) if n + found else 0.0,
        auroc=float(sk.roc_auc_score(has, score)) if both else None,
        average_precision=float(sk.average_precision_score(has, score)) if both else None,
    )


def _share(k: int, n: int) -> Interval | None:
    """95 % Wilson score interval of a share; None of nothing."""
    from scipy.stats import binomtest

    if n == 0:
        return None
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    # Clipped as Keras clips, so that both report the same loss.
    return float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1)).mean())


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
    confidence, right, count = reliability(labels, probabilities, bins).T
    return float(np.abs((confidence - right) * count).sum() / len(labels))


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> np.ndarray:
    """Bins of equal width by confidence: what each holds, empty ones left out.

    Args:
        labels: int of shape (n,), class indices.
        probabilities: float of shape (n, classes).
        bins: number of equal bins of confidence.

    Returns:
        float of shape (bins with images, 3): mean confidence, share that is right, and number of
        images of each.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    sums = [np.bincount(bin_of, weights=x, minlength=bins) for x in (confidence, right)]
    count = np.bincount(bin_of, minlength=bins)
    held = count > 0
    return np.stack([sums[0][held] / count[held], sums[1][held] / count[held], count[held]], 1)
