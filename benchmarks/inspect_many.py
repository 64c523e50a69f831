"""Whether memory grows with the number of photos: `inspect_photos` on many small ones.

    python benchmarks/inspect_many.py --count 500

The photos are drawn in other processes. The first 50 are inspected into a folder, then all of them
into the same folder, which goes on with the rest. After both, resident memory and its peak so far
are printed, with the seconds a photo has taken and the size of the report.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from joblib import Parallel, delayed
from PIL import Image

from crackclf.inspection.folder import inspect_photos
from crackclf.prediction.classifier import load_model
from crackclf.sample.make import make_photo

FIRST, SHAPE = 50, (600, 800)


def main(
    count: Annotated[int, typer.Option(help="Photos to draw, more than 50.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Folder to make and to keep.")] = None,
) -> None:
    """Prints memory after the first photos and after all."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number:05}.jpg" for number in range(count)]
        Parallel(n_jobs=-1)(delayed(draw)(file, number) for number, file in enumerate(files))
        classifier = load_model()
        for part, new in ((files[:FIRST], FIRST), (files, count - FIRST)):
            start = time.perf_counter()
            inspect_photos(part, classifier, out or Path(folder) / "out")
            seconds = (time.perf_counter() - start) / new
            now, peak = (memory(name) for name in ("VmRSS", "VmHWM"))
            print(f"{len(part):6} photos: {now:.0f} MiB, peak {peak:.0f}; {seconds:.3f} s a photo")
        size = ((out or Path(folder) / "out") / "report.html").stat().st_size
        print(f"report.html: {size / 2**20:.1f} MiB")


def draw(file: Path, number: int) -> None:
    """Draws a photo, every second one cracked."""
    photo, _ = make_photo(np.random.default_rng(number), number % 2 == 0, SHAPE)
    Image.fromarray(photo).save(file, quality=90)


def memory(name: str) -> float:
    """A line of this process's status, in MiB; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


if __name__ == "__main__":
    typer.run(main)
