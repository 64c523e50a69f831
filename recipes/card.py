"""The model card of the shipped model."""

import csv
import io
import string
from pathlib import Path

from scipy.stats import binomtest

from crackclf.data.datasets import Datasets
from crackclf.data.splits import SUBSETS
from crackclf.saved.card import Card
from measure import Measured

TITLES = {
    "metu": "METU",
    "sdnet": "SDNET2018, unseen photos",
    "uav": "drone photos",
    "uav-9": "drone photos, cut in 9",
    "uav-16": "drone photos, cut in 16",
    "sample": "drawn sample",
}


def render_table(measured: dict[str, Measured]) -> str:
    """The figures of all models on all sets as a Markdown table."""
    lines = [
        "| images | model | n | accuracy | recall | specificity | balanced accuracy | AUROC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in measured["shipped"]:
        for model in measured:
            report, intervals = measured[model][name]
            (hit, missed), (false, right) = report.confusion_matrix
            cells = [TITLES[name], model, str(report.n)]
            cells += [wilson(hit + right, report.n), wilson(hit, hit + missed)]
            cells += [wilson(right, false + right)]
            for figure in ("balanced_accuracy", "auroc"):
                low, high = intervals[figure]
                cells.append(f"{getattr(report, figure):.4f} ({low:.3f} to {high:.3f})")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def wilson(right: int, n: int) -> str:
    """A share with its 95 % Wilson interval."""
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return f"{right / n:.4f} ({interval.low:.3f} to {interval.high:.3f})"


def render_card(
    card: Card,
    parameters: int,
    table: str,
    unseen: str,
    measured: Measured,
    sets: dict[str, Datasets],
) -> str:
    """The model card as Markdown, from the template `model_card.md`."""
    failures = [
        f"- `{wrong.file}`: is {wrong.label}, called {wrong.predicted}, probability of a crack "
        f"{wrong.probability:.3f}"
        for name in ("metu", "sdnet", "uav")
        for wrong in measured[name][0].misclassified[:8]
    ]
    counts = [
        f"| {TITLES[name]} | "
        + " | ".join(" + ".join(str(n) for n in data.counts[s].values()) for s in SUBSETS)
        + " |"
        for name, data in sets.items()
    ]
    template = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    return string.Template(template).substitute(
        table=table,
        unseen=unseen.strip(),
        image_size=card.image_size,
        counts="\n".join(counts),
        failures="\n".join(failures),
        temperature=f"{card.temperature:.3f}",
        threshold=f"{card.threshold:.3f}",
        sha256=card.fingerprint,
        versions=", ".join(f"{name} {version}" for name, version in card.versions.items()),
        parameters=f"{parameters:,}",
    )


def split_table(sets: dict[str, Datasets], leave_out: str) -> str:
    """The subset of each real image as CSV, by digest, so that `evaluate` can warn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subset", "class", "digest", "file"])
    for name in ("metu", "sdnet", "uav"):
        data = sets[name]
        for subset, images in data.images.items():
            used = "test" if name == leave_out else subset
            for image in images:
                label, file = data.class_names[image.label], f"{name}/{image.path.name}"
                writer.writerow([used, label, image.digest, file])
    return text.getvalue()
