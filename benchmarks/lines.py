"""How well cracks are traced and measured, against masks that say where they are.

    python benchmarks/lines.py --masks data/uav
    python benchmarks/lines.py --drawn 20 --seed 7

With `--masks`, drone photos with masks drawn by hand; with `--drawn`, photos drawn by
`drawn_concrete`, whose masks are exact. A point of a line is right when it is within 3 pixels of
the other. Intervals are of 95 %, by drawing whole photos.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.morphology import skeletonize
from tqdm import tqdm

from crackclf import Inspection, inspect_photo, load_model, read_image
from crackclf.photos.trace import find_lines
from crackclf.photos.trace import length as length_of
from drawn_concrete.make import make_photo

NEAR = 3  # Pixels.
CLASSES = (0, 3, 6, 12, 100)  # Of the true width, in pixels.


def main(
    masks: Annotated[Path | None, typer.Option(help="Folder with images/ and masks/.")] = None,
    drawn: Annotated[int, typer.Option(help="Photos to draw.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the drawn photos.")] = 0,
    model: Annotated[str, typer.Option(help="Model folder.")] = "shipped",
) -> None:
    """Measures lines and widths on photos with masks."""
    classifier = load_model(model)
    pairs = draw(drawn, seed) if masks is None else read(masks)
    counts, cracks = [], []
    for image, mask in tqdm(list(pairs) if masks else pairs, total=drawn or None):
        found = inspect_photo(image, classifier)
        traced = rasterise(found)
        true = skeletonize(mask)
        to_true, to_traced = distance(true), distance(traced)
        near = (to_true[traced] <= NEAR).sum(), (to_traced[true] <= NEAR).sum()
        counts.append((near[0], traced.sum(), near[1], true.sum()))
        cracks += compare(found, mask, true)
    describe(np.array(counts))
    table(cracks)


def draw(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cracked photos of 3 megapixels and their masks."""
    for number in range(count):
        yield make_photo(np.random.default_rng((seed, number)), True)


def read(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Photos and their masks."""
    for path in sorted((folder / "images").iterdir()):
        mask = next((folder / "masks").glob(f"{path.stem}.*"))
        yield read_image(path), read_image(mask)[..., 0] > 127


def rasterise(found: Inspection) -> np.ndarray:
    """The lines as pixels, bool of the photo's shape."""
    picture = Image.new("1", (found.width, found.height))
    draw = ImageDraw.Draw(picture)
    for line in (line for crack in found.cracks for line in crack.lines):
        draw.line([(x, y) for x, y, _ in line], 1)
    return np.asarray(picture)


def distance(line: np.ndarray) -> np.ndarray:
    """From each pixel to the nearest of a line; infinite when there is none."""
    found: Any = ndimage.distance_transform_edt(~line)
    return found if line.any() else np.full(line.shape, np.inf)


def compare(found: Inspection, mask: np.ndarray, true: np.ndarray) -> list[tuple[float, ...]]:
    """Of each crack of the mask: true length and width, and those that were measured."""
    labelled: Any = ndimage.label(mask, np.ones((3, 3)))
    labels, count = labelled
    nearest: Any = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    far, (rows, columns) = nearest
    owner = np.where(far <= NEAR, labels[rows, columns], 0)
    pieces = []
    for line in (np.array(x, float) for crack in found.cracks for x in crack.lines):
        middle = (line[1:] + line[:-1]) / 2
        at = owner[middle[:, 1].astype(int), middle[:, 0].astype(int)]
        pieces.append(
            np.column_stack([at, np.hypot(*np.diff(line[:, :2], axis=0).T), middle[:, 2]])
        )
    whole = np.concatenate(pieces) if pieces else np.empty((0, 3))
    cracks = []
    for number in range(1, count + 1):
        if (true & (labels == number)).sum() >= 80:  # Corner to corner, or longer.
            length = measure(labels == number)
            own = whole[whole[:, 0] == number]
            width = (labels == number).sum() / length
            wide = own[:, 2][np.isfinite(own[:, 2])]
            seen = float(np.mean(wide)) if wide.size else np.nan
            cracks.append((length, width, own[:, 1].sum(), seen))
    return cracks


def measure(mask: np.ndarray) -> float:
    """Length of a crack of known mask, by the rules of `trace.py`: no spurs of its rough edges."""
    lines = find_lines(mask.astype(np.float32), np.ones_like(mask), 1.0)
    return sum(map(length_of, (line for crack in lines for line in crack)))


def describe(counts: np.ndarray) -> None:
    """Prints precision, recall and F1 over all photos."""
    rng = np.random.default_rng(0)
    drawn = counts[rng.integers(len(counts), size=(2000, len(counts)))].sum(axis=1)
    spread = rate(drawn)
    for name, figure in rate(counts.sum(axis=0)).items():
        low, high = np.nanpercentile(spread[name], [2.5, 97.5])
        print(f"{name} {figure:.3f} ({low:.3f} to {high:.3f})")


def rate(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Shares of the traced points that are right and of the true ones that are found, and F1."""
    precision, recall = sums[..., 0] / sums[..., 1], sums[..., 2] / sums[..., 3]
    return {"precision": precision, "recall": recall, "F1": 2 / (1 / precision + 1 / recall)}


def table(cracks: list[tuple[float, ...]]) -> None:
    """Prints errors of length and width by true width."""
    length, width, found, seen = np.array(cracks).T
    print("| true width, px | cracks | not found | length error | width error | width error, px |")
    print("|---|---|---|---|---|---|")
    for low, high in [*pairwise(CLASSES), (0, CLASSES[-1])]:
        of = (width >= low) & (width < high)
        traced = of & (found >= length / 10)
        if of.any():
            errors = (
                f"{np.median(np.abs(found - length)[traced] / length[traced]):.1%}",
                f"{np.nanmedian(np.abs(seen - width)[traced] / width[traced]):.1%}",
                f"{np.nanmedian(np.abs(seen - width)[traced]):.2f}",
            )
            print(
                f"| {low} to {high} | {of.sum()} | {(of & ~traced).sum()} | {' | '.join(errors)} |"
            )


if __name__ == "__main__":
    typer.run(main)
