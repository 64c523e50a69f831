"""A ready-made sample of concrete patches, drawn rather than photographed."""

import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from crackclf.data import concrete, lookalikes
from crackclf.errors import UserError

CLASS_NAMES = ("Negative", "Positive")
_CHUNK = 20
_LEAST_SIZE = 32
_LEAST_CRACK = 40


def make_patch(
    rng: np.random.Generator, cracked: bool, size: int = 227
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draws one concrete patch and the mask of its crack.

    Args:
        rng: Source of randomness; the same state gives the same patch.
        cracked: Whether to draw a crack.
        size: Side of the square patch, in pixels, at least 32.

    Returns:
        The RGB image, uint8 of shape (size, size, 3), and the crack mask, bool of shape
        (size, size), which is False everywhere unless `cracked`.

    Raises:
        UserError: If `size` is below 32.

    Example:

    ```python
    image, mask = make_patch(np.random.default_rng(0), cracked=True)
    print(image.shape, f"{mask.mean():.1%} of the patch is crack")
    ```
    """
    if size < _LEAST_SIZE:
        raise UserError(
            f"A patch needs room for a crack. Pass size={_LEAST_SIZE} or more. "
            f"Received: size={size}"
        )
    shape = (size, size)
    canvas = concrete.surface(rng, shape)
    if rng.random() < (0.35 if cracked else 0.45):
        canvas = lookalikes.distract(rng, canvas)
    mask = np.zeros(shape, bool)
    while cracked and (mask.sum() < _LEAST_CRACK or rng.random() < 0.1):
        hairline = rng.random() < 0.1
        width = rng.uniform(1.5, 4) if hairline else min(25, rng.lognormal(2.25, 0.55))
        coverage, side = concrete.crack(rng, shape, width)
        canvas = concrete.carve(rng, canvas, coverage, side, width)
        mask |= coverage > 0.5
    return concrete.photograph(rng, canvas), mask


def write_sample(directory: str | os.PathLike[str], count: int = 1200, seed: int = 0) -> Path:
    """Writes a labelled sample of drawn patches, one sub-folder of JPEG files per class.

    An image depends on `seed`, its class and its number only, so a larger sample contains
    the smaller one. The folder appears under its name once it is complete.

    Args:
        directory: Folder to create; may exist if it is empty.
        count: Number of images, at least 2, half of each class; an odd one is Negative.
        seed: Non-negative number which selects the sample.

    Returns:
        Path of the folder, which holds `Negative/` and `Positive/`.

    Raises:
        UserError: If `directory` is a file or not empty, or a number is out of range.

    Example:

    ```python
    folder = write_sample("sample", count=200)
    print(len(list(folder.glob("Positive/*.jpg"))))
    ```
    """
    target = Path(directory).resolve()
    _check(target, count, seed)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise UserError(
            f"The sample cannot be written to {target}: {error.strerror}. "
            f"Name a folder where you may write. Received: directory={target}"
        ) from error
    with scratch as scratch_name:
        draft = Path(scratch_name, "sample")
        for name in CLASS_NAMES:
            (draft / name).mkdir(parents=True)
        _write_all(draft, count, seed)
        if target.exists():
            target.rmdir()
        draft.rename(target)
    return Path(directory)


def _check(target: Path, count: int, seed: int) -> None:
    if count < 2:
        raise UserError(
            f"The sample {target} needs at least 2 images, one of each class. "
            f"Pass count=2 or more. Received: count={count}"
        )
    if seed < 0:
        raise UserError(
            f"The seed of the sample {target} must not be negative. "
            f"Pass seed=0 or more. Received: seed={seed}"
        )
    if target.exists() and not target.is_dir():
        raise UserError(
            f"The sample is written to a folder, but {target} is a file. "
            f"Name a new folder. Received: directory={target}"
        )
    if target.is_dir() and any(target.iterdir()):
        raise UserError(
            f"The sample is written to a new or empty folder, but {target} is not empty. "
            f"Name another folder, or empty this one yourself. Received: directory={target}"
        )


def _write_all(draft: Path, count: int, seed: int) -> None:
    # Loky's workers, unlike those of multiprocessing, do not run the caller's main script again,
    # so this works from a notebook, from standard input and from a script without a guard.
    from joblib import Parallel, delayed
    from tqdm import tqdm

    jobs = [
        delayed(_write_some)(draft, seed, label, range(first, min(first + _CHUNK, last + 1)))
        for label, last in enumerate((count - count // 2, count // 2))
        for first in range(1, last + 1, _CHUNK)
    ]
    with tqdm(total=count, desc="Drawing the sample", unit=" images") as bar:
        for done in Parallel(n_jobs=-1, return_as="generator_unordered")(jobs):
            bar.update(done)


def _write_some(draft: Path, seed: int, label: int, numbers: range) -> int:
    for number in numbers:
        rng = np.random.default_rng((seed, label, number))
        image, _ = make_patch(rng, cracked=bool(label))
        path = draft / CLASS_NAMES[label] / f"{number:05}.jpg"
        Image.fromarray(image).save(path, quality=int(rng.integers(70, 97)))
    return len(numbers)
