"""How well the map of a photo finds cracks, tile by tile, against masks drawn by hand.

    python benchmarks/inspect_masks.py data/uav
    python benchmarks/inspect_masks.py data/uav --unseen

The folder holds `images/` and `masks/` (crack is white). Each photo is cut into squares; one is
cracked when at least 0.3 % of it is crack, sound when none is, and left out in between. Its score
is the mean log-odds of the map inside it; beside it stands what the same model says of that square
alone, resized to the model's input. Intervals are 95 %, by drawing whole photos anew. `--unseen`
takes only photos of which no patch was in the model's training or validation set.
"""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm import tqdm

from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.inspection.photo import inspect_photo
from crackclf.prediction.classifier import Classifier, load_model
from crackclf.saved.store import model_folder

SIDES = (224, 112, 56)
LEAST_CRACK = 0.003
DRAWS = 1000


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with images/ and masks/.")],
    model: Annotated[str, typer.Option(help="Model folder, or the word shipped.")] = "shipped",
    unseen: Annotated[bool, typer.Option("--unseen", help="Leave out what it has seen.")] = False,
) -> None:
    """Prints AUROC and recall at 5 % false alarms by size of the squares."""
    classifier = load_model(model)
    mask_of = {path.stem: path for path in (folder / "masks").iterdir()}
    files = sorted((folder / "images").iterdir())
    if unseen:
        seen = photos_seen(model_folder(model) / "split.csv")
        files = [path for path in files if path.stem not in seen]
    rows = [measure(path, mask_of[path.stem], classifier) for path in tqdm(files, unit=" photos")]
    print(f"{len(files)} photos")
    print("side  squares  cracked  by         AUROC                    recall at 5 % false alarms")
    for at, side in enumerate(SIDES):
        for name in ("map", "square"):
            photos = [(row[at]["cracked"], row[at][name]) for row in rows]
            cracked = np.concatenate([labels for labels, _ in photos])
            figures = summarise(photos)
            print(f"{side:4}  {len(cracked):7}  {cracked.sum():7}  {name:9}  {figures}")


def photos_seen(split: Path) -> set[str]:
    """Stems of photos of which a patch, named PHOTO-ROW-COLUMN, was trained or validated on."""
    with split.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["subset"] != "test"]
    return {Path(row["file"]).stem.rsplit("-", 2)[0] for row in rows}


def measure(path: Path, mask_path: Path, classifier: Classifier) -> list[dict[str, np.ndarray]]:
    """Labels and scores of the squares of one photo, by size."""
    photo, mask = read_image(path), read_image(mask_path)[..., 0] > 127
    found = inspect_photo(photo, classifier, region_threshold=0.5)
    log_odds = np.log(found.probability) - np.log1p(-found.probability)
    fine = Image.fromarray(log_odds).resize(mask.shape[::-1], Image.Resampling.BILINEAR)
    log_odds, card = np.asarray(fine), classifier.card
    results = []
    for side in SIDES:
        corners = [
            (top, left)
            for top in range(0, mask.shape[0] - side + 1, side)
            for left in range(0, mask.shape[1] - side + 1, side)
        ]
        squares = [np.s_[top : top + side, left : left + side] for top, left in corners]
        share = np.array([mask[square].mean() for square in squares])
        kept = (share == 0) | (share >= LEAST_CRACK)
        alone = np.stack([resize(photo[s], card.image_size, card.image_size) for s in squares])
        results.append(
            {
                "cracked": share[kept] > 0,
                "map": np.array([log_odds[s].mean() for s in squares])[kept],
                "square": classifier.probabilities(alone)[kept, card.positive_index],
            }
        )
    return results


def summarise(photos: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """AUROC and recall at 5 % false alarms with their intervals."""
    rng = np.random.default_rng(0)
    figures = [figures_of(photos)]
    while len(figures) <= DRAWS:
        drawn = [photos[i] for i in rng.integers(0, len(photos), len(photos))]
        if 0 < np.mean(np.concatenate([labels for labels, _ in drawn])) < 1:
            figures.append(figures_of(drawn))
    low, high = np.percentile(figures[1:], [2.5, 97.5], axis=0)
    return "  ".join(
        f"{value:.3f} ({a:.3f} to {b:.3f})"
        for value, a, b in zip(figures[0], low, high, strict=True)
    )


def figures_of(photos: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """AUROC, and recall where 5 % of the sound squares are called cracked."""
    labels, scores = (np.concatenate(part) for part in zip(*photos, strict=True))
    false_alarms, recall, _ = roc_curve(labels, scores)
    return float(roc_auc_score(labels, scores)), float(np.interp(0.05, false_alarms, recall))


if __name__ == "__main__":
    typer.run(main)
