"""The figures of the shipped model as its card shows them."""

import csv
import io
import string
from pathlib import Path

from scipy.stats import binomtest

from crackclf.data.datasets import Datasets
from crackclf.data.splits import SUBSETS
from crackclf.evaluation.metrics import Report
from crackclf.models.saving import Classifier

TITLES = {
    "metu": "METU",
    "sdnet": "SDNET2018, unseen photos",
    "uav": "drone photos",
    "uav-9": "drone photos, cut in 9",
    "uav-16": "drone photos, cut in 16",
    "sample": "drawn sample",
}


def compare(reports: dict[str, dict[str, tuple[Report, dict]]]) -> str:
    """The Markdown table of all models on all sets."""
    lines = [
        "| images | model | n | accuracy | recall | specificity | balanced accuracy | AUROC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in reports["shipped"]:
        for model in reports:
            report, intervals = reports[model][name]
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


def describe(
    saved: Classifier,
    table: str,
    unseen: str,
    reports: dict[str, tuple[Report, dict]],
    sets: dict[str, Datasets],
) -> str:
    """The model card as Markdown, from the template beside this file."""
    failures = [
        f"- `{wrong.file}`: is {wrong.label}, called {wrong.predicted}, probability of a crack "
        f"{wrong.probability:.3f}"
        for name in ("metu", "sdnet", "uav")
        for wrong in reports[name][0].misclassified[:8]
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
        image_size=saved.card.image_size,
        counts="\n".join(counts),
        failures="\n".join(failures),
        temperature=f"{saved.card.temperature:.3f}",
        threshold=f"{saved.card.threshold:.3f}",
        sha256=saved.card.sha256,
        versions=", ".join(f"{name} {version}" for name, version in saved.card.versions.items()),
        parameters=f"{saved.model.count_params():,}",
    )


def split_table(sets: dict[str, Datasets], leave_out: str) -> str:
    """Which real image was in which subset, by digest, so that `evaluate` can warn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subset", "class", "digest", "file"])
    for name in ("metu", "sdnet", "uav"):
        data = sets[name]
        for subset in SUBSETS:
            for label, digest, file in zip(
                data.labels[subset], data.digests[subset], data.files[subset], strict=True
            ):
                used = "test" if name == leave_out else subset
                writer.writerow([used, data.class_names[label], digest, f"{name}/{file.name}"])
    return text.getvalue()
