"""What exports are worth: every format against `keras.predict`, on the images it was tested on.

    python benchmarks/export_speed.py shipped data/metu
    python benchmarks/export_speed.py saved_models/metu data/metu

Every format is written as `crackclf export` writes it, in float32 and where there is one in 8 bits
(by 300 other images than those), and run by its own runtime on all cores. Speed: 256
of the test images in batches of 32, all formats one after the other and that several times, after a
batch to warm up; an image is uint8 of the size it has on the disk for the exported files, which
resize it, and resized beforehand for Keras. Times faster is the median of the ratios to
`keras.predict` in the same round, with the lowest and the highest.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import typer
from scipy.stats import binomtest

from crackclf.data.images import read_image
from crackclf.errors import UserError
from crackclf.inference.evaluation import choose_for_export, read_labelled, read_split
from crackclf.inference.export import Export, export_model
from crackclf.inference.formats import FORMATS
from crackclf.inference.predict import resize
from crackclf.models.saving import Classifier, load_model, model_folder

IMAGES, BATCH = 256, 32


class Remembering(Classifier):
    """Keras need not be asked of the same images for each format."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """See `Classifier`."""
        known = vars(self).setdefault("known", {})
        key = images.tobytes()[::999]
        if key not in known:
            known[key] = super().probabilities(images)
        return known[key]


def main(
    model: str, data: Path, rounds: Annotated[int, typer.Option(help="Of timing.")] = 7
) -> None:
    """Prints a table of formats."""
    classifier = Remembering(**vars(load_model(model)))
    images, cracked = read_labelled(classifier, data)
    tested, chosen = choose_for_export(images, read_split(model_folder(model)), 300)
    files, calibration = [images[i].path for i in tested], [images[i].path for i in chosen]
    pixels = np.stack([read_image(file) for file in files[:: len(files) // IMAGES][:IMAGES]])
    size = classifier.card.image_size
    resized = np.stack([np.asarray(resize(image, size)) for image in pixels])
    net = classifier.model
    assert isinstance(net, keras.Model)
    keras_file = model_folder(model) / "model.keras"
    runs: dict[str, Callable[[], object]] = {
        "keras.predict": lambda: net.predict(resized, batch_size=BATCH, verbose=0),
        "crackclf predict": lambda: batched(classifier.fast, resized),
    }
    found: dict[str, Export | None] = dict.fromkeys(runs)
    with tempfile.TemporaryDirectory() as folder:
        for format, bits in [(format, bits) for format in FORMATS for bits in ("", " int8")]:
            name, file = format + bits, Path(folder) / f"{format}{bits}{FORMATS[format].suffix}"
            by = calibration if bits else []
            try:
                found[name] = export_model(classifier, file, format, files, cracked[tested], by)
            except UserError as error:
                print(f"{name}: {error}")
                continue
            run = FORMATS[format].load(file).run
            runs[name] = lambda run=run: batched(run, pixels)
        seconds = time_rounds(runs, rounds)
    print("| format | MB | images/s | times faster | accuracy | max difference |")
    print("|---|---|---|---|---|---|")
    for name, export in found.items():
        speed = IMAGES / statistics.median(seconds[name])
        ratio = [a / b for a, b in zip(seconds["keras.predict"], seconds[name], strict=True)]
        times = f"{statistics.median(ratio):.1f} ({min(ratio):.1f} to {max(ratio):.1f})"
        if export is None:
            size_mb = keras_file.stat().st_size / 1e6 if name == "keras.predict" else None
            print(f"| {name} | {size_mb and f'{size_mb:.2f}'} | {speed:.0f} | {times} | | |")
            continue
        assert export.accuracy
        right = export.accuracy[1]
        interval = binomtest(round(right * export.images), export.images).proportion_ci(
            method="wilson"
        )
        print(
            f"| {name} | {export.size / 1e6:.2f} | {speed:.0f} | {times} | {right:.4f} "
            f"({interval.low:.4f} to {interval.high:.4f}) | {export.max_difference:.2g} |"
        )
    print(f"\n{len(files)} test images; Keras' accuracy {export.accuracy[0]:.4f}")


def batched(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> list[np.ndarray]:
    """Answers in batches of 32."""
    return [run(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]


def time_rounds(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:  # The first warms up.
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    typer.run(main)
