"""A sample of concrete, patches or whole photos, drawn into a folder."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from drawn_concrete.make import make_patch, make_photo

CLASS_NAMES = ("Negative", "Positive")


def write_sample(directory: str | os.PathLike[str], count: int = 1200, seed: int = 0) -> Path:
    """Writes a labelled sample of drawn patches, one sub-folder of JPEG files per class.

    An image depends on `seed`, its class and its number only, so a larger sample contains
    the smaller one. The folder appears under its name once it is complete.

    Args:
        directory: folder to make; may exist if it is empty.
        count: number of images, at least 2, half of each class; an odd one is Negative.
        seed: 0 or more; selects the sample.

    Returns:
        Path of the folder, which holds `Negative/` and `Positive/`.

    Raises:
        ValueError: when `directory` is a file or is not empty, or a number is out of range.
        OSError: when `directory` cannot be written.

    Example:

    ```python
    folder = write_sample("sample", count=200)
    print(len(list(folder.glob("Positive/*.jpg"))))
    ```
    """
    return _write_folder(directory, CLASS_NAMES, _write_patch, count, seed)


def write_photos(directory: str | os.PathLike[str], count: int = 6, seed: int = 0) -> Path:
    """Writes drawn whole photos with the masks of their cracks.

    Args:
        directory: folder to make; may exist if it is empty.
        count: number of photos, at least 2; the even ones are cracked.
        seed: 0 or more; selects the photos.

    Returns:
        Path of the folder, which holds `images/` (JPEG, 2,000 x 1,500 pixels) and `masks/` (PNG of
        the same names; crack is 255).

    Raises:
        ValueError: when `directory` is a file or is not empty, or a number is out of range.
        OSError: when `directory` cannot be written.

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
    write: Callable[[Path, int, int], None],
    count: int,
    seed: int,
) -> Path:
    # Loky's workers, unlike those of multiprocessing, do not run the caller's main script again,
    # so this works from a notebook, from standard input and from a script without a guard.
    from joblib import Parallel, delayed
    from tqdm import tqdm

    directory = Path(directory).expanduser()
    if count < 2:
        raise ValueError(f"count must be 2 or more, one of each class. Received: count={count}.")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more. Received: seed={seed}.")
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise ValueError(
            f"{directory}: expected a new or an empty folder. Received: a "
            f"{'folder that is not empty' if directory.is_dir() else 'file'}. Name another folder."
        )
    # Workers that an earlier call left may stand in another folder.
    target = directory.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=target.parent) as aside:
        draft = Path(aside) / target.name
        for name in names:
            (draft / name).mkdir(parents=True)
        jobs = (delayed(write)(draft, seed, number) for number in range(1, count + 1))
        done = Parallel(n_jobs=-1, return_as="generator_unordered")(jobs)
        for _ in tqdm(done, "Drawing the sample", count, unit=" images"):
            pass
        draft.replace(target)
    return directory


def _write_patch(draft: Path, seed: int, index: int) -> None:
    # Classes take turns, the sound one first.
    label, number = 1 - index % 2, (index + 1) // 2
    rng = np.random.default_rng((seed, label, number))
    image, _ = make_patch(rng, cracked=bool(label))
    path = draft / CLASS_NAMES[label] / f"{number:05}.jpg"
    Image.fromarray(image).save(path, quality=int(rng.integers(70, 97)))


def _write_photo(draft: Path, seed: int, number: int) -> None:
    image, mask = make_photo(np.random.default_rng((seed, number)), cracked=number % 2 == 0)
    Image.fromarray(image).save(draft / "images" / f"{number:03}.jpg", quality=90)
    Image.fromarray(mask).convert("L").save(draft / "masks" / f"{number:03}.png")
