"""How well widths are measured, and how often their intervals hold: drawn cracks, end to end.

    python benchmarks/widths.py --count 160 --seed 13

Each scene of 800 x 600 pixels has one crack, 0.8 to 90 pixels wide, as a drawn camera sees it. It
is inspected as any photo. The true width is measured across the traced line, every pixel along it;
the largest one is found as `trace.py` finds it. Told are, by width found, the error of the mean
width, and how often the interval of the largest one holds the true one. A crack that is "under X"
is right when it is.
"""

from itertools import pairwise
from typing import Annotated

import numpy as np
import typer
from joblib import Parallel, delayed
from scipy import ndimage

from crackclf import inspect_photo, load_model
from crackclf.files import cores
from crackclf.photos.trace import widest_place
from crackclf.prediction import Classifier
from drawn_concrete.concrete import carve, crack, photograph, surface

SIZE, WIDTHS = (600, 800), (0.8, 90)
CLASSES = (0, 3, 6, 12, 24, 200)  # Of widths, in pixels.
FAR, STEP = 110, 0.25  # Pixels across a line, to each side, and from one sample to the next.


def main(
    count: Annotated[int, typer.Option(help="Scenes.")] = 160,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 13,
    model: Annotated[str, typer.Option(help="Model folder.")] = "shipped",
) -> None:
    """Measures widths on drawn scenes."""
    jobs = (delayed(inspect)(load_model(model), (seed, number)) for number in range(count))
    rows = np.array([row for row in Parallel(cores())(jobs) if row is not None])
    mean, true_mean, largest, low, high, true_largest = rows.T
    right = (true_largest >= low) & (true_largest <= high)
    print("| width, px | cracks | error of the mean | the same, px | interval holds the largest |")
    print("|---|---|---|---|---|")
    for least, most in [*pairwise(CLASSES), (0, CLASSES[-1])]:
        error, of = np.abs(mean - true_mean), (true_mean >= least) & (true_mean < most)
        shown = f"{np.median((error / true_mean)[of]):.1%} | {np.median(error[of]):.2f}"
        found = np.where(np.isfinite(largest), largest, high)
        held = right[(found >= least) & (found < most)]
        print(f"| {least} to {most} | {of.sum()} | {shown} | {held.mean():.0%} of {len(held)} |")


def inspect(classifier: Classifier, seed: tuple[int, int]) -> tuple[float, ...] | None:
    """Mean and largest width of a scene's longest crack, found and true, with the interval."""
    rng = np.random.default_rng(seed)
    canvas, width = surface(rng, SIZE), float(np.exp(rng.uniform(*np.log(WIDTHS))))
    coverage, side = crack(rng, SIZE, width)
    photo = photograph(rng, carve(rng, canvas, coverage, side, width))
    cracks = inspect_photo(photo, classifier, region_threshold=0.5).cracks
    if not cracks or cracks[0].width_high is None:
        return None
    found, true, largest = [], [], 0.0
    for line in cracks[0].lines:
        place, own = follow(np.array(line, float))
        across = measure_across(place, coverage, np.nanmax([8, *own]))
        found, true = [*found, *own], [*true, *across]
        best = widest_place(place, ndimage.uniform_filter1d(np.nan_to_num(across), 5))
        largest = max(largest, best[0] if best else 0)
    known = np.isfinite(found) & np.isfinite(true)
    if known.sum() < 30:
        return None
    means = np.mean(np.array(found)[known]), np.mean(np.array(true)[known])
    crack_ = cracks[0]
    return *means, crack_.max_width or np.nan, crack_.width_low, crack_.width_high, largest


def follow(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) as x and y and widths (n,) along a line, one a pixel."""
    along = np.append(0, np.hypot(*np.diff(line[:, :2], axis=0).T).cumsum())
    at = np.arange(max(2, int(along[-1])))
    x, y, width = (np.interp(at, along, column) for column in line.T)
    return ndimage.gaussian_filter1d(np.column_stack([x, y]), 2, 0, mode="nearest"), width


def measure_across(place: np.ndarray, coverage: np.ndarray, reach: float) -> np.ndarray:
    """The true width at each place of a line; NaN where no crack is as near as half of `reach`."""
    normal = np.gradient(place, axis=0)[:, ::-1] * (1, -1)
    normal /= np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
    across = np.arange(-FAR, FAR + STEP, STEP)
    x, y = (place[:, None] + across[:, None] * normal[:, None] - 0.5).transpose(2, 0, 1)
    inside = ndimage.map_coordinates(coverage.astype(np.float32), (y, x), order=1) > 0.5
    widths = np.full(len(place), np.nan)
    for row, solid in enumerate(inside):
        labels = ndimage.label(solid)[0]
        near = np.flatnonzero(solid & (np.abs(across) <= reach / 2))
        if near.size:
            nearest = near[np.abs(across[near]).argmin()]
            widths[row] = STEP * (labels == labels[nearest]).sum()
    return ndimage.median_filter(widths, 5)


if __name__ == "__main__":
    typer.run(main)
