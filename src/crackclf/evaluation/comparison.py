"""Several models on the same test images: what each is worth, and what it costs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One backbone of a comparison.

    Attributes:
        backbone: its name.
        weights_origin: where the weights of its base came from.
        data_fingerprint: of the images it was trained and tested on.
        accuracy: on the test images.
        accuracy_interval: 95 % Wilson score interval.
        balanced_accuracy: mean of the classes' recalls.
        average_precision: area under the precision-recall curve of the cracked class; None as for
            `auroc`.
        loss: categorical cross-entropy (nats).
        auroc: area under the ROC curve; None when the test images are of one class.
        n: number of test images.
        wrong: the test images on which it is wrong.
        parameters: of the whole model.
        megabytes: size of the model's file, in millions of bytes.
        seconds: of loading the images, training and testing; less where the features had been
            cached before. None when an interruption lost it.
        images_per_second: at prediction, in batches of 32.
        peak_mb: most memory that its process held, in MiB; None on Windows, which does not say.
    """

    backbone: str
    weights_origin: str
    data_fingerprint: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    average_precision: float | None
    loss: float
    auroc: float | None
    n: int
    wrong: tuple[str, ...]
    parameters: int
    megabytes: float
    seconds: float | None
    images_per_second: float
    peak_mb: float | None


@dataclass(frozen=True)
class Pair:
    """Two backbones on the same test images, by McNemar's exact test.

    Attributes:
        first: name of one.
        second: name of the other.
        only_first: test images on which only the first is right.
        only_second: on which only the second is.
        p_value: how probable so uneven a split is when both are equally good.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        entries: one for each backbone that could be trained, in the order asked for.
        pairs: one for each two of them.
        missing: why a backbone could not be trained, by its name.
    """

    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as what JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        head = ("backbone", "accuracy", "95 % interval", "balanced", "loss", "AUROC")
        rows: list[tuple[str, ...]] = [
            (*head, "average precision", "parameters", "MB", "seconds", "images/s", "peak MiB")
        ]
        for entry in self.entries:
            low, high = entry.accuracy_interval
            auroc, precision = (
                "" if x is None else f"{x:.4f}" for x in (entry.auroc, entry.average_precision)
            )
            rows.append(
                (
                    entry.backbone,
                    f"{entry.accuracy:.4f}",
                    f"{low:.4f} to {high:.4f}",
                    f"{entry.balanced_accuracy:.4f}",
                    f"{entry.loss:.5f}",
                    auroc,
                    precision,
                    f"{entry.parameters:,}",
                    f"{entry.megabytes:.1f}",
                    "" if entry.seconds is None else f"{entry.seconds:.0f}",
                    f"{entry.images_per_second:.0f}",
                    "" if entry.peak_mb is None else f"{entry.peak_mb:,.0f}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        for pair in self.pairs:
            lines.append(
                f"{pair.first} alone right on {pair.only_first}, {pair.second} alone on "
                f"{pair.only_second} of {self.entries[0].n}: McNemar's exact p = {pair.p_value:.3g}"
            )
        lines += [f"{name}: missing. {why}" for name, why in self.missing.items()]
        return "\n".join(lines)


def compare_entries(entries: Sequence[Entry], missing: Mapping[str, str]) -> Comparison:
    """Puts each two entries to McNemar's test.

    Exact, as the binomial test that the images on which only one of the two is right are as often
    the one's as the other's (McNemar 1947, Psychometrika 12:153): its chi-square form is for many
    such images, and good models have few.

    Args:
        entries: of the same test images.
        missing: why others could not be had, by backbone.

    Returns:
        A `Comparison`.
    """
    from scipy.stats import binomtest

    pairs = []
    for first, second in combinations(entries, 2):
        only_first = len(set(second.wrong) - set(first.wrong))
        only_second = len(set(first.wrong) - set(second.wrong))
        n = only_first + only_second
        p_value = float(binomtest(only_first, n).pvalue) if n else 1.0
        pairs.append(Pair(first.backbone, second.backbone, only_first, only_second, p_value))
    return Comparison(tuple(entries), tuple(pairs), dict(missing))
