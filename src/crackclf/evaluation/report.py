"""The figures of an evaluation, and how they are said."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crackclf.data.folders import is_uneven
from crackclf.errors import counted

_FEW = 30  # Images of a class below which a figure without an interval says next to nothing.
Interval = tuple[float, float]


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
class ClassFigures:
    """The figures of one class against all others.

    Attributes:
        name: of the class.
        n: number of its images.
        precision: share of the images given this class that have it.
        precision_interval: 95 % Wilson score interval; None when no image was given the class.
        recall: share of its images that are found.
        recall_interval: 95 % Wilson score interval; None when it has no images.
        f1: harmonic mean of precision and recall.
        auroc: area under the ROC curve of its probability; None when all images are of one kind.
        average_precision: area under the precision-recall curve; None as for `auroc`.
    """

    name: str
    n: int
    precision: float
    precision_interval: Interval | None
    recall: float
    recall_interval: Interval | None
    f1: float
    auroc: float | None
    average_precision: float | None

    def __str__(self) -> str:
        areas = f"AUROC {_with(self.auroc)}", f"average precision {_with(self.average_precision)}"
        return "  ".join(
            [
                f"{self.name}: {counted(self.n, 'image')}",
                f"recall {_with(self.recall, self.recall_interval)}",
                f"precision {_with(self.precision, self.precision_interval)}",
                *(areas if self.n >= _FEW else ()),
            ]
        )


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
        accuracy_interval: 95 % Wilson score interval of the accuracy.
        balanced_accuracy: mean of the classes' recalls.
        loss: categorical cross-entropy (nats).
        precision: share of the images called positive that are.
        precision_interval: 95 % Wilson score interval; None when no image is called positive.
        recall: share of the positive images that are found.
        recall_interval: 95 % Wilson score interval; None when there are no positive images.
        f1: harmonic mean of precision and recall.
        auroc: area under the ROC curve; None when only one class is present.
        average_precision: area under the precision-recall curve; None as for `auroc`.
        calibration_error: expected calibration error over 15 equal bins of confidence.
        confusion_matrix: counts, a row for each true class, a column for each predicted one.
        classification_report: scikit-learn's, as text.
        misclassified: the images that are wrong, the most confidently wrong first.
        temperature: by which logits were divided before all of this.
        uncalibrated_loss: the loss before that.
        uncalibrated_calibration_error: the calibration error before that.
        classes: the figures of each class against all others.
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
    precision_interval: Interval | None
    recall: float
    recall_interval: Interval | None
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

    def to_dict(self) -> dict[str, Any]:
        """The report as what JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        present = [x for x in self.classes if x.n]
        counts = [x.n for x in present]
        n = sum(x.n for x in present if x.name == self.positive_class)
        few = min(n, self.n - n) < _FEW
        accuracy = f"accuracy {_with(self.accuracy, self.accuracy_interval, '95 % interval ')}"
        balanced = f"balanced accuracy {self.balanced_accuracy:.4f}"
        lines = [
            f"{counted(self.n, 'image')}, {len(self.misclassified)} misclassified at threshold "
            f"{self.threshold:.3g}"
        ]
        if not is_uneven(counts):
            lines.append(accuracy if few else f"{accuracy}, {balanced}")
        elif not few:
            lines.append(f"{balanced}, average precision {_with(self.average_precision)}")
        if len(self.classes) > 2:
            lines += map(str, present)
        else:
            lines.append(
                f"for {self.positive_class}: precision "
                f"{_with(self.precision, self.precision_interval)}, recall "
                f"{_with(self.recall, self.recall_interval)}"
            )
        if few:
            lines.append(f"fewer than {_FEW} images of a class: other figures are left out")
        else:
            lines.append(
                f"AUROC {_with(self.auroc)}, loss {self.loss:.4f}, calibration error "
                f"{self.calibration_error:.4f}"
            )
            if self.temperature != 1:
                lines[-1] += (
                    f" (before calibration {self.uncalibrated_loss:.4f} and "
                    f"{self.uncalibrated_calibration_error:.4f}, temperature "
                    f"{self.temperature:.2f})"
                )
        if is_uneven(counts):
            lines.append(f"{accuracy} is misleading: the classes have {_list(counts)} images")
        return "\n".join(lines)


def _list(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts[:-1])) + f" and {counts[-1]}"


def _with(value: float | None, interval: Interval | None = None, what: str = "") -> str:
    """A figure in words, with its interval."""
    if value is None:
        return "undefined (one class only)"
    ends = "" if interval is None else f" ({what}{interval[0]:.4f} to {interval[1]:.4f})"
    return f"{value:.4f}{ends}"
