"""How long a whole photo takes: `inspect_photo` against tiles through `keras.predict`.

    python benchmarks/inspect_speed.py
    python benchmarks/inspect_speed.py --photo bridge.jpg

The same model and the same photo (a drawn one of 12 megapixels when none is named), one after the
other in one process. Tiles are of the model's patch size and overlap by half; each is resized to
the model's input, and `keras.predict` answers for all of them in batches of 32, after one batch to
warm up. `inspect_photo` runs once to warm up, then takes turns with the map alone; decoding the
file is timed by itself.

Last, a photo of 50 megapixels in a process of its own, for its peak memory.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from crackclf import Classifier, inspect_photo, load_keras_model, load_model, read_image
from crackclf.images import resize
from crackclf.photos.maps import map_cracks
from drawn_concrete.make import make_photo

RUNS = 5
load_keras = cache(load_keras_model)
# `getrusage` would count what the process that starts this one has taken.
PEAK = """
import sys
from crackclf import inspect_photo
inspect_photo(sys.argv[1])
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")))
"""


def main(
    photo: Annotated[Path | None, typer.Option(help="A photo; drawn when absent.")] = None,
) -> None:
    """Prints seconds, their ratio, and memory."""
    classifier = load_model()
    with tempfile.TemporaryDirectory() as folder:
        if photo is None:
            photo = Path(folder) / "drawn.jpg"
            drawn, _ = make_photo(np.random.default_rng(0), cracked=True, shape=(3000, 4000))
            Image.fromarray(drawn).save(photo, quality=90)
        compare(photo, classifier)
        large = Path(folder) / "large.jpg"
        Image.fromarray(read_image(photo)).resize((8660, 5774)).save(large, quality=90)
        command = [sys.executable, "-c", PEAK, str(large)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"50 megapixels (8660 x 5774): peak {int(done.stdout):,} MiB")


def compare(photo: Path, classifier: Classifier) -> None:
    """Times both ways on one photo."""
    start = time.perf_counter()
    image = Image.fromarray(read_image(photo))
    decoding = time.perf_counter() - start
    print(f"{photo.name}: {image.width} x {image.height}; decoding {decoding:.2f} s")
    start = time.perf_counter()
    inspect_photo(image, classifier)
    print(f"the first time in a process {time.perf_counter() - start:.2f} s")
    seconds: dict[str, list[float]] = {"inspect_photo": [], "its map alone": []}
    for _ in range(RUNS):
        for name, run in zip(seconds, (inspect_photo, map_cracks), strict=True):
            start = time.perf_counter()
            run(image, classifier)
            seconds[name].append(time.perf_counter() - start)
    ours = statistics.median(seconds["inspect_photo"])
    tiles, theirs = predict_tiles(np.asarray(image), classifier)
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"{name:22}   {middle:7.2f} s ({min(times):.2f} to {max(times):.2f})")
    print(f"{tiles:5} tiles, predict     {theirs:7.2f} s; ratio {theirs / ours:.1f}")


def predict_tiles(pixels: np.ndarray, classifier: Classifier) -> tuple[int, float]:
    """How many tiles there are, and the seconds that they took."""
    card, model = classifier.card, load_keras()
    side, size = card.patch_size, card.image_size
    model.predict(np.zeros((32, size, size, 3), np.float32), verbose="0")
    start = time.perf_counter()
    edges = [
        sorted({*range(0, length - side, side // 2), length - side}) for length in pixels.shape[:2]
    ]
    corners = [(top, left) for top in edges[0] for left in edges[1]]
    tiles = [
        resize(pixels[top : top + side, left : left + side], size, size) for top, left in corners
    ]
    model.predict(np.stack(tiles), batch_size=32, verbose="0")
    return len(tiles), time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)
