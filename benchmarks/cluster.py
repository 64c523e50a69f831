"""Ray clusters of one and of two workers on this machine, and the same work without Ray.

    pip install -e ".[ray,dev]"
    python benchmarks/cluster.py data/metu

The folder has one sub-folder of images per class. Measured one after another:

- `predict` in this process, on all cores;
- `map_images` with one worker and with two, each on one core: all seconds, with the start of Ray
  and of each worker, and images a second over the second half of the images, when all workers are
  busy;
- the same with two workers, one of which is killed (SIGKILL) after a quarter of the rows: rows in,
  rows out, different images among these;
- training: checking and splitting the folder, the feature pass by two workers and by this process,
  and ten epochs of the head.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import keras
import psutil
import pyarrow.parquet
import typer

from crackclf import (
    build_callbacks,
    build_model,
    find_images,
    load_datasets,
    load_model,
    predict,
    train,
)
from crackclf.features.cache import cache_features
from crackclf.ray import Predictor
from crackclf.ray import answers as cluster
from crackclf.ray.cluster import connected
from crackclf.ray.features import compute_on_cluster


def main(
    data: Annotated[Path, typer.Argument(help="Folder with one sub-folder of images per class.")],
) -> None:
    """Prints the table of docs/cluster.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A copy, in which nothing is cached.
        images = shutil.copytree(data, folder / "images", ignore=shutil.ignore_patterns(".*"))
        n = len(find_images([images]))
        print(f"{n:,} images, {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
        classifier = load_model()
        seconds, _ = timed(lambda: predict(images, classifier))
        tell("predict, this process", seconds, n)
        for workers in (1, 2):
            answer(images, folder / f"out-{workers}", workers, n)
        answer(images, folder / "out-killed", 2, n, kill_at=n // 4)
        train_on_cluster(images, folder)


def answer(images: Path, out: Path, workers: int, n: int, kill_at: int = 0) -> None:
    """Times `map_images`, and counts its rows."""
    stamps: list[tuple[float, int]] = []
    work = cluster.map_blocks

    def watched(*arguments: Any) -> Any:
        killed = not kill_at
        for table in work(*arguments):
            stamps.append((time.perf_counter(), len(table)))
            if not killed and sum(rows for _, rows in stamps) >= kill_at:
                os.kill(find_workers()[0], signal.SIGKILL)
                killed = True
            yield table

    cluster.map_blocks = watched
    try:
        with connected(cpus=workers):
            seconds, outcome = timed(lambda: cluster.map_images(Predictor(), [images], out))
    finally:
        cluster.map_blocks = work
    half = len(stamps) // 2
    rows = sum(rows for _, rows in stamps[half + 1 :])
    steady = rows / (stamps[-1][0] - stamps[half][0])
    tell(f"{workers} worker(s){', one killed' * bool(kill_at)}", seconds, n, steady)
    files = pyarrow.parquet.read_table(out, columns=["file"])["file"].to_pylist()
    print(f"    rows in {n:,}, out {len(files):,}, different {len(set(files)):,}; {outcome.counts}")


def find_workers() -> list[int]:
    """Process numbers of the workers that map blocks."""
    found = []
    for process in psutil.Process().children(recursive=True):
        if "MapWorker" in " ".join(process.cmdline()):
            found.append(process.pid)
    return found


def train_on_cluster(images: Path, folder: Path) -> None:
    """Times the parts of a training."""
    seconds, data = timed(lambda: load_datasets(images))
    n = sum(map(len, data.files.values()))
    tell("check and split the folder", seconds, n)
    keras.utils.set_random_seed(0)
    model = build_model()
    with connected(cpus=2):
        seconds, _ = timed(lambda: cache_features(model, data, mapper=compute_on_cluster))
    tell("feature pass, 2 workers", seconds, n)
    shutil.rmtree(data.directory / ".crackclf" / "features")
    seconds, _ = timed(lambda: cache_features(model, data))
    tell("feature pass, this process", seconds, n)
    callbacks = build_callbacks(folder / "logs", patience=None)
    seconds, _ = timed(lambda: train(model, data, callbacks, 10, views=0, verbose=0))
    tell("head, 10 epochs", seconds, 10 * len(data.files["train"]))


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the function returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def tell(what: str, seconds: float, n: int, steady: float | None = None) -> None:
    """Prints a line of the table."""
    rates = f"{n / seconds:8.1f}" + ("" if steady is None else f"{steady:8.1f} steady")
    print(f"{what:28}{seconds:8.1f} s{rates} images/s", flush=True)


if __name__ == "__main__":
    typer.run(main)
