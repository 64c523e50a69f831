"""A ready-made sample of concrete, patches and whole photos, drawn rather than photographed."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from crackclf.data import concrete, lookalikes
from crackclf.data.drawing import Array
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
        canvas = _add_crack(rng, canvas, mask)
    return concrete.photograph(rng, canvas), mask


def make_photo(
    rng: np.random.Generator, cracked: bool, shape: tuple[int, int] = (1500, 2000)
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draws one whole photo of concrete and the mask of its cracks.

    Cracks and what may be taken for one have the size in pixels that they have in patches, and
    are as few as on a wall: up to three things that are no cracks, and one or two cracks.

    Args:
        rng: Source of randomness; the same state gives the same photo.
        cracked: Whether to draw cracks.
        shape: (height, width) in pixels, each at least 32.

    Returns:
        The RGB image, uint8 of shape (height, width, 3), and the crack mask, bool of shape
        (height, width).

    Raises:
        UserError: If a side is below 32.

    Example:

    ```python
    image, mask = make_photo(np.random.default_rng(0), cracked=True)
    ```
    """
    if min(shape) < _LEAST_SIZE:
        raise UserError(
            f"A photo needs room for a crack. Pass sides of {_LEAST_SIZE} or more. "
            f"Received: shape={shape}"
        )
    canvas = concrete.surface(rng, shape)
    if rng.random() < 0.6:
        canvas = lookalikes.distract(rng, canvas)
    mask = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 3) if cracked else 0):
        canvas = _add_crack(rng, canvas, mask)
    return concrete.photograph(rng, canvas), mask


def _add_crack(rng: np.random.Generator, canvas: Array, mask: npt.NDArray[np.bool_]) -> Array:
    hairline = rng.random() < 0.1
    width = rng.uniform(1.5, 4) if hairline else min(25, rng.lognormal(2.25, 0.55))
    coverage, side = concrete.crack(rng, mask.shape, width)
    mask |= coverage > 0.5
    return concrete.carve(rng, canvas, coverage, side, width)


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
    return _write_folder(directory, CLASS_NAMES, _write_patches, count, seed)


def write_photos(directory: str | os.PathLike[str], count: int = 6, seed: int = 0) -> Path:
    """Writes drawn whole photos with the masks of their cracks.

    Args:
        directory: Folder to create; may exist if it is empty.
        count: Number of photos, at least 2; the even ones are cracked.
        seed: Non-negative number which selects them.

    Returns:
        Path of the folder, which holds `images/` (JPEG, 2,000 x 1,500 pixels) and `masks/` (PNG of
        the same names; crack is 255).

    Raises:
        UserError: If `directory` is a file or not empty, or a number is out of range.

    Example:

    ```python
    folder = write_photos("data/photos")
    print(sorted(path.name for path in folder.glob("images/*")))
    ```
    """
    return _write_folder(directory, ("images", "masks"), _write_photo, count, seed)


def _write_folder(
    directory: str | os.PathLike[str],
    names: Sequence[str],
    write: Callable[[Path, int, range], int],
    count: int,
    seed: int,
) -> Path:
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
        for name in names:
            (draft / name).mkdir(parents=True)
        _write_all(draft, write, count, seed)
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


def _write_all(
    draft: Path, write: Callable[[Path, int, range], int], count: int, seed: int
) -> None:
    # Loky's workers, unlike those of multiprocessing, do not run the caller's main script again,
    # so this works from a notebook, from standard input and from a script without a guard.
    from joblib import Parallel, delayed
    from tqdm import tqdm

    chunk = _CHUNK if write is _write_patches else 1
    jobs = [
        delayed(write)(draft, seed, range(first, min(first + chunk, count + 1)))
        for first in range(1, count + 1, chunk)
    ]
    with tqdm(total=count, desc="Drawing the sample", unit=" images") as bar:
        for done in Parallel(n_jobs=-1, return_as="generator_unordered")(jobs):
            bar.update(done)


def _write_patches(draft: Path, seed: int, numbers: range) -> int:
    for index in numbers:
        # Classes take turns, the sound one first.
        label, number = 1 - index % 2, (index + 1) // 2
        rng = np.random.default_rng((seed, label, number))
        image, _ = make_patch(rng, cracked=bool(label))
        path = draft / CLASS_NAMES[label] / f"{number:05}.jpg"
        Image.fromarray(image).save(path, quality=int(rng.integers(70, 97)))
    return len(numbers)


def _write_photo(draft: Path, seed: int, numbers: range) -> int:
    for number in numbers:
        image, mask = make_photo(np.random.default_rng((seed, number)), cracked=number % 2 == 0)
        Image.fromarray(image).save(draft / "images" / f"{number:03}.jpg", quality=90)
        Image.fromarray(mask).convert("L").save(draft / "masks" / f"{number:03}.png")
    return len(numbers)
