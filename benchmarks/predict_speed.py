"""How fast many patches are answered for: `predict` against `keras.predict` and plain LiteRT.

    python benchmarks/predict_speed.py DIR [--model FOLDER] [--count 10000] [--against FOLDER]

DIR holds images. All three read the same files on all cores and answer with the same model.
`keras.predict` gets batches of 32 that tf.data reads, decodes and resizes on all cores. Plain
LiteRT is one interpreter of one thread a core, and nothing else: images decoded by Pillow and
resized by Pillow, eight at a time. `--against` names another model, for which `predict` answers
too. Each begins with 256 images that do not count, then they take turns.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Annotated

import numpy as np
import typer
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import crackclf
from crackclf.files import cores
from crackclf.saving import open_model

AT_ONCE = 8


def main(
    directory: Annotated[Path, typer.Argument(help="Folder of images, searched all through.")],
    model: Annotated[str, typer.Option(help="Model folder, or shipped.")] = "shipped",
    count: Annotated[int, typer.Option(help="Number of images.")] = 10_000,
    rounds: Annotated[int, typer.Option(help="That count.")] = 3,
    against: Annotated[str | None, typer.Option(help="Another model folder.")] = None,
) -> None:
    """Prints images per second, and the ratio to the others."""
    files = crackclf.find_images([directory])[:count]
    ways = {
        "keras.predict": keras_way(model),
        "plain LiteRT on all cores": litert_way(model),
        "crackclf.predict": lambda part: crackclf.predict(part, model),
    }
    if against is not None:
        ways[f"crackclf.predict, {against}"] = lambda part: crackclf.predict(part, against)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for part in (files[:256], *[files] * rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(part)
            speeds[name].append(len(part) / (time.perf_counter() - start))
    speeds = {name: values[1:] for name, values in speeds.items()}
    ours = statistics.median(speeds["crackclf.predict"])
    print("| | images/s | lowest | highest | crackclf.predict against it |\n|---|---|---|---|---|")
    for name, values in speeds.items():
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"| {name} | {middle:.0f} | {low:.0f} | {high:.0f} | {ours / middle:.2f} |")


def keras_way(model: str) -> Callable[[list[Path]], object]:
    """The Keras model."""
    network = crackclf.load_keras_model(model)
    import tensorflow as tf

    size = network.input_shape[1]

    def read(path: object) -> object:
        return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), 3), (size, size))

    def run(files: list[Path]) -> np.ndarray:
        paths = tf.data.Dataset.from_tensor_slices([str(path) for path in files])
        images = paths.map(read, tf.data.AUTOTUNE).batch(32).prefetch(tf.data.AUTOTUNE)
        return network.predict(images, verbose=0)

    return run


def litert_way(model: str) -> Callable[[list[Path]], object]:
    """One interpreter a thread."""
    card, paths = open_model(model)
    content, own = paths["model.tflite"].read_bytes(), local()
    size = (card.image_size, card.image_size)

    def answer(part: list[Path]) -> np.ndarray:
        images = [np.asarray(Image.open(path).resize(size, Image.BILINEAR)) for path in part]
        x = np.stack(images)
        if getattr(own, "shape", None) != x.shape:
            own.model, own.shape = Interpreter(model_content=content, num_threads=1), x.shape
            own.model.resize_tensor_input(own.model.get_input_details()[0]["index"], x.shape)
            own.model.allocate_tensors()
        own.model.set_tensor(own.model.get_input_details()[0]["index"], x.astype("f"))
        own.model.invoke()
        return own.model.get_tensor(own.model.get_output_details()[0]["index"]).mean(axis=(1, 2))

    def run(files: list[Path]) -> list[np.ndarray]:
        parts = [files[i : i + AT_ONCE] for i in range(0, len(files), AT_ONCE)]
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(answer, parts))

    return run


if __name__ == "__main__":
    typer.run(main)
