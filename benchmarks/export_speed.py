"""Speed and accuracy of every export format against `keras.predict`, on the model's test images.

    python benchmarks/export_speed.py shipped data/metu
    python benchmarks/export_speed.py saved_models/metu data/metu

Every format is written as `crackclf export` writes it, in float32 and, if there is one, in 8 bits
(by 300 other images), and run by its own runtime on all cores. OpenVINO also runs its float32 file
in bfloat16, which it takes by itself on processors that can. Speed is measured on 256 of the test
images, uint8 and of their own size, in batches of 32 for runtimes that do not divide them by
themselves. Each round times all formats one after another; the first one warms up. Times faster is
the median of the ratios to `keras.predict` in the same round, with the lowest and the highest.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import tensorflow as tf
import typer
from scipy.stats import binomtest

from crackclf.errors import UserError
from crackclf.export.choose import choose_images
from crackclf.export.export import Export, export_model, measure
from crackclf.export.formats import FORMATS, load_openvino
from crackclf.images.decode import read_image
from crackclf.prediction.classifier import load_model
from crackclf.prediction.evaluate import read_labelled, read_split
from crackclf.prediction.predict import predict
from crackclf.saved.store import load_keras_model, model_folder

IMAGES, BATCH = 256, 32


def main(
    model: str, data: Path, rounds: Annotated[int, typer.Option(help="Of timing.")] = 7
) -> None:
    """Prints a table of formats."""
    classifier, net = load_model(model), load_keras_model(model)
    card = classifier.card
    images, labels = read_labelled(card, data, None)
    tested, chosen = choose_images(images, read_split(model_folder(model)), 300)
    files, calibration = [images[i].path for i in tested], [images[i].path for i in chosen]
    pixels = np.stack([read_image(file) for file in files[:: len(files) // IMAGES][:IMAGES]])

    def ask_keras() -> np.ndarray:
        x = np.asarray(tf.image.resize(pixels, (card.image_size, card.image_size)))
        return net.predict(x, batch_size=BATCH, verbose=0)

    runs: dict[str, Callable[[], object]] = {
        "keras.predict": ask_keras,
        "crackclf predict": lambda: predict(pixels, classifier),
    }
    exports: dict[str, Export] = {}
    with tempfile.TemporaryDirectory() as folder:
        for format, bits in [(format, bits) for format in FORMATS for bits in ("", " int8")]:
            name, file = format + bits, Path(folder) / f"{format}{bits}{FORMATS[format].suffix}"
            by = calibration if bits else []
            try:
                exports[name] = export_model(model, file, format, files, labels[tested], by)
            except UserError as error:
                print(f"{name}: {error}")
                continue
            run = FORMATS[format].load(file).run
            size = IMAGES if format == "openvino" else BATCH
            runs[name] = lambda run=run, size=size: batched(run, pixels, size)
            if name == "openvino":
                loaded = load_openvino(file, "bf16")
                runs["openvino bf16"] = lambda run=loaded.run: run(pixels)
                size = exports[name].size
                exports["openvino bf16"] = measure(
                    loaded, classifier, file, size, files, labels[tested]
                )
        seconds = time_rounds(runs, rounds)
    print("| format | MB | images/s | times faster | accuracy | max difference |")
    print("|---|---|---|---|---|---|")
    for name in runs:
        speed = IMAGES / statistics.median(seconds[name])
        ratio = [a / b for a, b in zip(seconds["keras.predict"], seconds[name], strict=True)]
        times = f"{statistics.median(ratio):.1f} ({min(ratio):.1f} to {max(ratio):.1f})"
        export = exports.get(name)
        found = f"{export.size / 1e6:.2f}" if export else ""
        right, difference = "", ""
        if export and export.accuracy:
            right = interval(export.accuracy[1], export.images)
            difference = f"{export.max_difference:.2g}"
        print(f"| {name} | {found} | {speed:.0f} | {times} | {right} | {difference} |")
    before = exports["onnx"].accuracy
    assert before
    keras_mb = (model_folder(model) / "model.keras").stat().st_size / 1e6
    print(f"\n{len(files)} test images; Keras {keras_mb:.2f} MB, {interval(before[0], len(files))}")


def interval(right: float, n: int) -> str:
    """An accuracy with Wilson's interval."""
    low, high = binomtest(round(right * n), n).proportion_ci(method="wilson")
    return f"{right:.4f} ({low:.4f} to {high:.4f})"


def batched(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, size: int
) -> list[np.ndarray]:
    """Answers in batches."""
    return [run(images[i : i + size]) for i in range(0, len(images), size)]


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
