"""The model card of the shipped model."""

import csv
import io
import string
from collections.abc import Mapping
from pathlib import Path

from scipy.stats import binomtest

from crackclf.folders import digest_of
from crackclf.saving import Card
from measure import Figures
from sets import Sets

TITLES = {
    "metu": "METU",
    "sdnet": "SDNET2018, unseen photos",
    "D": "its decks",
    "P": "its pavements",
    "W": "its walls",
    "drone": "drone frames held back, cut in 4",
    "frames": "all drone frames, cut in 4",
    "whole": "twelve whole photos of SDNET2018, by square",
    "drawn": "drawn sample",
    "jointed": "drawn joints without cracks",
    "squares": "squares of whole photos",
    "sound": "sound views of whole photos",
}
_HEAD = (
    "| images | model | n | recall | specificity | balanced accuracy | AUROC | sound ones called "
    "cracked at recall 0.9 |"
)

Measured = Mapping[str, Mapping[str, Figures]]  # By set and model.


def render_table(measured: Measured) -> str:
    """The figures of all models on all sets as a Markdown table."""
    lines = [_HEAD, "|---|---|---|---|---|---|---|---|"]
    for name, models in measured.items():
        for model, figures in models.items():
            (hit, missed), (false, right) = figures.report.confusion_matrix
            cells = [TITLES[name], model, str(figures.report.n)]
            cells += [wilson(hit, hit + missed), wilson(right, false + right)]
            for figure in ("balanced_accuracy", "auroc"):
                if figures.intervals:
                    low, high = figures.intervals[figure]
                    value = getattr(figures.report, figure)
                    cells.append(f"{value:.4f} ({low:.3f} to {high:.3f})")
                else:
                    cells.append("")
            alarms = figures.false_alarms
            cells.append("" if alarms is None else f"{alarms:.3f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def wilson(right: int, n: int) -> str:
    """A share with its 95 % Wilson interval; empty of none."""
    if n == 0:
        return ""
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return f"{right / n:.4f} ({interval.low:.3f} to {interval.high:.3f})"


def render_card(
    card: Card, parameters: int, table: str, unseen: str, sets: Sets, measured: Measured
) -> str:
    """The model card as Markdown, from the template `model_card.md`."""
    failures = [
        f"- `{name}/{wrong.file}`: is {wrong.label}, called {wrong.predicted}, probability of a "
        f"crack {wrong.probability:.3f}"
        for name in ("metu", "sdnet", "drone", "frames")
        if name in measured
        for wrong in measured[name]["shipped"].report.misclassified[:8]
    ]
    counts = []
    for name in dict.fromkeys([*sets.train, *sets.test]):
        row = [TITLES[name]]
        for part in (sets.train, sets.validation, sets.test):
            items = part.get(name, [])
            cracked = sum(item.is_cracked for item in items)
            row.append(f"{cracked} + {len(items) - cracked}" if items else "")
        counts.append(f"| {' | '.join(row)} |")
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


def split_table(sets: Sets) -> str:
    """The subset of each real image as CSV, by digest, so that `evaluate` can warn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subset", "class", "digest", "file"])
    for subset, part in (
        ("train", sets.train),
        ("validation", sets.validation),
        ("test", sets.test),
    ):
        for name in ("metu", "sdnet", "squares", "drone"):
            for item in part.get(name, []):
                label = "crack" if item.is_cracked else "no_crack"
                digest = digest_of(item.path.read_bytes())
                writer.writerow([subset, label, digest, f"{name}/{item.path.name}"])
    return text.getvalue()
