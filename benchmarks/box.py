"""How good a model is on the test images of the recipe, which chose nothing.

    python benchmarks/box.py OUT DATA --model shipped --model FOLDER --json figures.json

OUT and DATA are those of `recipes/concrete.py`. Patches: recall and specificity at the model's own
threshold, balanced accuracy and AUROC. Frames and drawn photos: centre lines of cracks, right
within 3 pixels. Whole photos of SDNET2018: squares of 256 pixels, ranked by what is most like a
crack in them; told is the precision where 7 and 8 of 10 cracked ones are found. Intervals are of
95 %, by drawing whole photos.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from lines import distance, rasterise, rate
from PIL import Image
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import remove_small_objects, skeletonize
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from crackclf import inspect_photo, load_model, predict, read_image
from crackclf.evaluation import group_intervals
from crackclf.photos.maps import map_photo
from crackclf.prediction import Classifier

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))

from sets import SQUARE, Item, join_squares, read_sets

NEAR = 3  # Pixels.
LOW, HIGH, SPECK = 0.3, 0.8, 40  # Of lines: probabilities, and pixels of a line at least.
FINE = 64  # Pixels of a square in its map.
COLUMNS = ("recall", "specificity", "balanced accuracy", "AUROC")
TITLES = {
    "sdnet": "SDNET2018, labels put right",
    "D": "its decks",
    "P": "its pavements",
    "W": "its walls",
    "sdnet as published": "SDNET2018, labels as published",
    "metu": "METU",
    "drone": "drone frames, cut in 4",
    "drawn": "drawn patches",
    "joints": "drawn joints, half of them cracked",
    "textures": "textures with joints, none cracked",
    "frames": "drone frames: lines",
    "photos": "drawn photos: lines",
    "whole": "whole photos of SDNET2018: squares",
}

Row = dict[str, Any]


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the recipe's run.")],
    data: Annotated[Path, typer.Argument(help="Folder of the data sets.")],
    model: Annotated[list[str], typer.Option(help="Model folders.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write figures.")] = None,
) -> None:
    """Prints the figures of models by set."""
    sets = {name: items for name, items in read_sets(out, data).test.items() if name in TITLES}
    figures: dict[str, dict[str, Row]] = {name: {} for name in TITLES}
    for name in model:
        classifier = load_model(name)
        for images, items in sets.items():
            if images in ("frames", "photos", "whole") and not classifier.card.sound_peaks:
                continue  # A model of one's own: it draws no mask, and has no threshold of regions.
            if images == "whole":
                figures[images][name] = measure_squares(items, classifier)
            elif images in ("frames", "photos"):
                figures[images][name] = measure_lines(items, classifier)
            else:
                figures[images][name] = measure_labels(items, classifier)
    print(render(figures))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def measure_labels(items: Sequence[Item], classifier: Classifier) -> Row:
    """Figures of a set of patches."""
    found = predict([repeat(x) if x.tiles else x.path for x in items], classifier)
    scores = np.array([prediction.probability for prediction in found])
    cracked, called = np.array([x.is_cracked for x in items]), scores >= classifier.card.threshold
    row: Row = {"n": len(items)}
    if cracked.any():
        row["recall"] = float(called[cracked].mean())
    if not cracked.all():
        row["specificity"] = float(1 - called[~cracked].mean())
    if len(row) == 3:
        row["balanced accuracy"] = (row["recall"] + row["specificity"]) / 2
        row["AUROC"] = float(roc_auc_score(cracked, scores))
        between = group_intervals(
            cracked, scores, [x.photo for x in items], classifier.card.threshold
        )
        row["balanced accuracy between"] = between["balanced_accuracy"]
        row["AUROC between"] = between["auroc"]
    return row


def repeat(item: Item) -> np.ndarray:
    """A texture twice in each direction, of 227 pixels."""
    image = read_image(item.path)
    box = (0, 0, *[2 * min(image.shape[:2])] * 2)
    whole = Image.fromarray(np.tile(image, (2, 2, 1)))
    return np.asarray(whole.resize((227, 227), Image.Resampling.BICUBIC, box))


def measure_lines(items: Sequence[Item], classifier: Classifier) -> Row:
    """Precision, recall and F1 of centre lines, of all images together."""
    counts = []
    for item in tqdm(items, "Lines", unit=" images"):
        found = find_lines(read_image(item.path), classifier)
        true = skeletonize(np.asarray(Image.open(item.mask)) > 0)
        to_true, to_found = distance(true), distance(found)
        near = (to_true[found] <= NEAR).sum(), (to_found[true] <= NEAR).sum()
        counts.append((near[0], found.sum(), near[1], true.sum()))
    return summarise(np.array(counts, float), lambda chosen: rate(chosen.sum(axis=0)))


def find_lines(image: np.ndarray, classifier: Classifier) -> np.ndarray:
    """Centre lines of cracks, bool of the shape of the image: of the mask, or traced."""
    photo = Image.fromarray(image)
    _, mask = map_photo(photo, classifier)
    if mask is None:
        return rasterise(inspect_photo(photo, classifier))
    whole = Image.fromarray(mask).resize(photo.size, Image.Resampling.BICUBIC)
    lines = skeletonize(apply_hysteresis_threshold(np.asarray(whole), LOW, HIGH))
    return remove_small_objects(lines, max_size=SPECK, connectivity=2)


def measure_squares(items: Sequence[Item], classifier: Classifier) -> Row:
    """Precision of the squares of whole photos where most cracked ones are found."""
    by_photo, photos = defaultdict(list), []
    for item in items:
        by_photo[item.photo].append(item)
    for squares in tqdm(by_photo.values(), "Whole photos", unit=" photos"):
        whole, is_sound = join_squares(squares)
        probability, mask = map_photo(whole, classifier)
        field = Image.fromarray(probability if mask is None else mask)
        size = [side // SQUARE * FINE for side in whole.size]
        fine = np.asarray(field.resize(size, Image.Resampling.BILINEAR))
        cells = fine.reshape(is_sound.shape[0], FINE, -1, FINE).swapaxes(1, 2)
        worst = np.sort(cells.reshape(*is_sound.shape, -1), axis=-1)[..., -FINE // 4]
        photos.append(np.stack([worst.ravel(), ~is_sound.ravel()]))

    def precision(chosen: np.ndarray) -> dict[str, float]:
        scores, cracked = np.concatenate([photos[i] for i in chosen], axis=1)
        hits = cracked[np.argsort(-scores)].cumsum()
        last = {share: np.searchsorted(hits, share * hits[-1]) for share in (0.7, 0.8)}
        return {f"precision at {x}": float(hits[i] / (i + 1)) for x, i in last.items()}

    return summarise(np.arange(len(photos)), precision)


def summarise(parts: np.ndarray, score: Callable[[np.ndarray], dict[str, Any]]) -> Row:
    """Figures of all parts, and between which values they are when parts are drawn."""
    rng = np.random.default_rng(0)
    drawn = [score(parts[rng.integers(len(parts), size=len(parts))]) for _ in range(1000)]
    row: Row = {"n": len(parts)}
    for name, value in score(parts).items():
        low, high = np.nanquantile([x[name] for x in drawn], (0.025, 0.975)).tolist()
        row |= {name: float(value), f"{name} between": (low, high)}
    return row


def render(figures: dict[str, dict[str, Row]]) -> str:
    """Markdown tables: of patches, and of lines and squares."""
    patches = [f"| images | model | n | {' | '.join(COLUMNS)} |", "|---" * 7 + "|"]
    others = ["", "| images | model | n | figures |", "|---|---|---|---|"]
    for name, models in figures.items():
        for model, row in models.items():
            shown = {x: show(row, x) for x in row if x != "n" and not x.endswith("between")}
            start = f"| {TITLES[name]} | {model} | {row['n']} |"
            if shown.keys() <= set(COLUMNS):
                patches.append(f"{start} {' | '.join(shown.get(x, '') for x in COLUMNS)} |")
            else:
                others.append(f"{start} {', '.join(' '.join(x) for x in shown.items())} |")
    return "\n".join(patches + others)


def show(row: Row, name: str) -> str:
    """A figure with its interval."""
    between = row.get(f"{name} between")
    return f"{row[name]:.3f}" + (f" ({between[0]:.3f} to {between[1]:.3f})" if between else "")


if __name__ == "__main__":
    typer.run(main)
