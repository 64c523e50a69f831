"""The model card of the shipped model."""

import csv
import dataclasses
import io
import string
import sys
from pathlib import Path

from crackclf.files import write_whole
from crackclf.folders import digest_of
from crackclf.saving import CARD_FILE, Card
from sets import Sets

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

from box import TITLES, render


def write_card(folder: Path, unseen: dict, figures: dict, sets: Sets) -> None:
    """Writes the figures into `card.json`, and `MODEL_CARD.md` and `split.csv` beside it.

    Args:
        folder: the model folder.
        unseen: what `benchmarks/box.py` wrote of the network that saw no drone frame.
        figures: the same of this model.
        sets: all images.
    """
    figures, unseen = ({k: _rename(v) for k, v in x.items()} for x in (figures, unseen))
    card = Card.read(folder / CARD_FILE)
    metrics = {name: models["this"] for name, models in figures.items()}
    metrics["drone, never trained on"] = unseen["drone"]["this"]
    write_whole(folder / CARD_FILE, dataclasses.replace(card, metrics=metrics).to_json())
    counts = []
    for name in dict.fromkeys(name for part in sets for name in part):
        row = [TITLES.get(name, name)]
        for part in sets:
            cracked = [item.is_cracked for item in part.get(name, ())]
            row.append(f"{sum(cracked)} + {len(cracked) - sum(cracked)}" if cracked else "")
        counts.append(f"| {' | '.join(row)} |")
    template = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    text = string.Template(template).substitute(
        table=render(figures),
        unseen=render(unseen),
        counts="\n".join(counts),
        image_size=card.image_size,
        temperature=f"{card.temperature:.3f}",
        threshold=f"{card.threshold:.3f}",
        sha256=card.fingerprint,
        versions=", ".join(f"{name} {version}" for name, version in card.versions.items()),
    )
    write_whole(folder / "MODEL_CARD.md", text)
    write_whole(folder / "split.csv", _render_split(sets))


def _rename(models: dict) -> dict:
    return dict(zip(("this", "before"), models.values(), strict=False))


def _render_split(sets: Sets) -> str:
    """The digest of each real image that was learnt from or chosen by, so that users are told."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subset", "digest"])
    real = ("metu", "sdnet cracked", "sdnet sound", "D", "P", "W", "drone")
    for subset, part in zip(("train", "validation"), sets, strict=False):
        for item in (item for name in real for item in part.get(name, ())):
            writer.writerow([subset, digest_of(item.path.read_bytes())])
    return text.getvalue()
