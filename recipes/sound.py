"""Measures what a model makes of photos of sound concrete, and writes it into its card.

    python recipes/sound.py src/crackclf/shipped --patch-size 227

Photos of 12 megapixels are drawn, without a crack; a card that knows the highest probability on
each lets `crackclf inspect` choose its threshold for a stated rate of false alarms. It takes some
ten minutes on two cores.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from crackclf.data.files import write_whole
from crackclf.data.sample import make_photo
from crackclf.inference.maps import map_cracks
from crackclf.models.saving import Classifier, load_model

SHAPE = (3000, 4000)


def main(
    model: Annotated[Path, typer.Argument(help="Model folder; its card.json is rewritten.")],
    patch_size: Annotated[int, typer.Option(help="Pixels of a photo that make a patch.")],
    photos: Annotated[int, typer.Option(help="Number of photos to draw.")] = 99,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 1,
) -> None:
    """Measures what a model makes of photos of sound concrete, and writes it into its card."""
    classifier = load_model(model)
    card = dataclasses.replace(classifier.card, patch_size=patch_size)
    peaks = measure_drawn(Classifier(classifier.model, card), photos, seed)
    write_whole(model / "card.json", dataclasses.replace(card, sound_peaks=peaks).to_json())
    print(np.percentile(peaks, [50, 80, 90, 95, 100]).round(4).tolist())


def measure_drawn(classifier: Classifier, count: int, seed: int) -> tuple[float, ...]:
    """The highest probability of a crack on each of `count` drawn sound photos."""
    jobs = (
        delayed(make_photo)(np.random.default_rng((seed, number)), False, SHAPE)
        for number in range(count)
    )
    drawn = Parallel(n_jobs=2, return_as="generator")(jobs)
    peaks = []
    for photo, _ in tqdm(drawn, "Measuring sound photos", count, unit=" photos"):
        peaks.append(round(float(map_cracks(Image.fromarray(photo), classifier).max()), 6))
    return tuple(peaks)


if __name__ == "__main__":
    typer.run(main)
