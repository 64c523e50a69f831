"""How well the inspection of whole photos finds cracked squares, and how often it errs.

    python benchmarks/inspect_squares.py data/sdnet2018 --model shipped --model OTHER

The folder holds SDNET2018: `crack/` and `no_crack/` with names as D_7001-115.jpg. Photos of which
all squares are there are joined again and inspected. A square is found when more than 30 % of it is
in a region, or when at least 40 pixels of a traced crack are in it. Intervals are of 95 %, by
drawing whole photos.
"""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from crackclf import Inspection, inspect_photo, load_model

SIDE, COLUMNS, WHOLE = 256, 18, 200
SHARE, LENGTH = 0.3, 40
Squares = dict[str, np.ndarray]


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with crack/ and no_crack/.")],
    model: Annotated[list[str], typer.Option(help="Model folders.")] = ["shipped"],  # noqa: B006
    region_threshold: Annotated[float | None, typer.Option(help="In place of the card's.")] = None,
) -> None:
    """Prints figures by model, and what a photo's regions are worth."""
    photos = find(folder)
    print(f"{len(photos)} photos, {sum(x.size for _, x in photos.values())} squares")
    print("| model | by | AUROC | precision | recall | sound squares found | false per photo |")
    print("|---|---|---|---|---|---|---|")
    for name in model:
        classifier, measured = load_model(name), []
        for paths, cracked in tqdm(photos.values(), unit=" photos"):
            found = inspect_photo(join(paths), classifier, region_threshold)
            measured.append(measure(found, cracked))
        auroc = interval(measured, lambda x: roc_auc_score(x["cracked"], x["score"]))
        for by in ("region", "trace"):
            cells = [
                interval(measured, lambda x, by=by: (x[by] & x["cracked"]).sum() / x[by].sum()),
                interval(measured, lambda x, by=by: x[by][x["cracked"]].mean()),
                interval(measured, lambda x, by=by: x[by][~x["cracked"]].mean()),
                f"{np.mean([x[f'false_{by}'] for x in measured]):.1f}",
            ]
            print(f"| {name} | {by} | {auroc} | {' | '.join(cells)} |")


def find(folder: Path) -> dict[str, tuple[list[Path], np.ndarray]]:
    """Of each whole photo its squares in order, and which of them are cracked."""
    squares: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*/*.jpg"):
        if match := re.match(r"([DPW]_\d+)-(\d+)", path.stem):
            squares.setdefault(match[1], []).append((int(match[2]), path))
    whole = {k: [path for _, path in sorted(v)] for k, v in squares.items() if len(v) > WHOLE}
    return {
        photo: (paths, np.array([x.parent.name == "crack" for x in paths]).reshape(-1, COLUMNS))
        for photo, paths in sorted(whole.items())
    }


def join(paths: list[Path]) -> Image.Image:
    """A photo of its squares."""
    photo = Image.new("RGB", (COLUMNS * SIDE, len(paths) // COLUMNS * SIDE))
    for number, path in enumerate(paths):
        row, column = divmod(number, COLUMNS)
        photo.paste(Image.open(path), (column * SIDE, row * SIDE))
    return photo


def measure(found: Inspection, cracked: np.ndarray) -> Squares:
    """What is known of each square, and how many regions and cracks touch no cracked one."""
    odds = np.log(found.probability) - np.log1p(-found.probability)
    small = Image.fromarray(odds).resize(cracked.shape[::-1], Image.Resampling.BOX)
    touched = {"region": np.zeros(cracked.shape), "trace": np.zeros(cracked.shape)}
    false = {"region": 0, "trace": 0}
    for region in found.regions:
        picture = Image.new("1", (found.width, found.height))
        draw = ImageDraw.Draw(picture)
        for ring in (ring for rings in region.polygons for ring in rings[:1]):
            draw.polygon(ring, fill=1)
        share = np.asarray(picture.convert("L").reduce(SIDE)) / 255
        touched["region"] += share
        false["region"] += not cracked[share > 0].any()
    for crack in found.cracks:
        length = np.zeros(cracked.shape)
        for line in (np.array(x, float)[:, :2] for x in crack.lines):
            middle = ((line[1:] + line[:-1]) / 2 // SIDE).astype(int)
            np.add.at(length, (middle[:, 1], middle[:, 0]), np.hypot(*np.diff(line, axis=0).T))
        touched["trace"] += length
        false["trace"] += not cracked[length > 0].any()
    return {
        "cracked": cracked.ravel(),
        "score": np.asarray(small).ravel(),
        "region": touched["region"].ravel() > SHARE,
        "trace": touched["trace"].ravel() >= LENGTH,
        **{f"false_{by}": np.array(count) for by, count in false.items()},
    }


def interval(photos: list[Squares], figure) -> str:
    """A figure over all photos, with its interval."""

    def of(chosen: list[Squares]) -> float:
        names = ("cracked", "score", "region", "trace")
        return figure({name: np.concatenate([x[name] for x in chosen]) for name in names})

    rng = np.random.default_rng(0)
    drawn = [of([photos[i] for i in rng.integers(0, len(photos), len(photos))]) for _ in range(500)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{of(photos):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    typer.run(main)
