"""Measures a model on drawn photos of sound concrete, and writes the result into its card.

    python recipes/sound.py src/crackclf/shipped --patch-size 227

The photos have 12 megapixels, no joints, and up to two things that are no cracks. The card then
holds the highest probability of a crack on each, by which `crackclf inspect` chooses its threshold
for a given rate of false alarms. This takes ten minutes on two cores.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from crackclf.files import cores, write_whole
from crackclf.photos.maps import map_cracks
from crackclf.prediction import Classifier, load_model
from drawn_concrete.concrete import photograph, surface
from drawn_concrete.make import add_things

SHAPE = (3000, 4000)


def main(
    model: Annotated[Path, typer.Argument(help="Model folder; its card.json is rewritten.")],
    patch_size: Annotated[int, typer.Option(help="Pixels of a photo that make a patch.")],
    photos: Annotated[int, typer.Option(help="Number of photos to draw.")] = 99,
    seed: Annotated[int, typer.Option(help="Of the photos.")] = 1,
) -> None:
    """Measures a model on drawn photos of sound concrete, and writes the result into its card."""
    classifier = load_model(model)
    card = dataclasses.replace(classifier.card, patch_size=patch_size)
    peaks = measure_drawn(dataclasses.replace(classifier, card=card), photos, seed)
    write_whole(model / "card.json", dataclasses.replace(card, sound_peaks=peaks).to_json())
    print(np.percentile(peaks, [50, 80, 90, 95, 100]).round(4).tolist())


def measure_drawn(classifier: Classifier, count: int, seed: int) -> tuple[float, ...]:
    """The highest probability of a crack on each of `count` drawn photos of sound concrete."""
    jobs = (delayed(draw)(np.random.default_rng((seed, number))) for number in range(count))
    drawn: Any = Parallel(n_jobs=cores(), return_as="generator")(jobs)
    return tuple(
        round(float(map_cracks(Image.fromarray(photo), classifier).max()), 6)
        for photo in tqdm(drawn, "Measuring sound photos", count, unit=" photos")
    )


def draw(rng: np.random.Generator) -> np.ndarray:
    """A photo of sound concrete: uint8 of shape (*SHAPE, 3)."""
    canvas = surface(rng, SHAPE)
    return photograph(rng, add_things(rng, canvas, rng.integers(3)))


if __name__ == "__main__":
    typer.run(main)
