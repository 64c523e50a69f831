"""Photos with crack masks become a folder of labelled patches."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.files import building
from crackclf.images.decode import FORMATS, read_image

_LEAST_CRACK = 0.003  # Share of a patch. With less, the crack only touches its edge.


def cut_patches(
    images: str | os.PathLike, masks: str | os.PathLike, directory: str | os.PathLike, grid: int
) -> Path:
    r"""Cuts photos into square patches and labels each by the photo's crack mask.

    A patch is cracked when at least 0.3 % of it is crack, and sound when none of it is. Patches
    in between are left out.

    Args:
        images: folder of photos.
        masks: folder of masks of the same names (any suffix) and sizes; crack is above 127.
        directory: the folder to make, with `crack/` and `no_crack/`. Patches are named
            `PHOTO-ROW-COLUMN.png`, so `group_by=r"(.+)-\d+-\d+"` keeps a photo on one side of a
            split.
        grid: patches along the shorter side of a photo.

    Returns:
        The folder.

    Raises:
        UserError: when the folder exists, or a mask is missing or has another size than its photo.

    Example:

    ```python
    cut_patches("uav/images", "uav/masks", "data/uav-patches", grid=3)
    ```
    """
    images, masks, directory = Path(images), Path(masks), Path(directory)
    if directory.exists():
        raise UserError(f"{directory}: already exists; name a folder that does not.")
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder. Expected photos and masks in two folders.")
    mask_of = {path.stem: path for path in masks.iterdir() if path.suffix.lower() in FORMATS}
    with building(directory) as draft:
        for name in ("crack", "no_crack"):
            (draft / name).mkdir()
        for path in sorted(x for x in images.iterdir() if x.suffix.lower() in FORMATS):
            if path.stem not in mask_of:
                raise UserError(f"{path}: has no mask in {masks}.")
            photo = read_image(path)
            crack = read_image(mask_of[path.stem])[..., 0] > 127
            if crack.shape != photo.shape[:2]:
                raise UserError(
                    f"{mask_of[path.stem]}: expected the photo's size {photo.shape[:2]}. "
                    f"Received: {crack.shape}."
                )
            _cut(photo, crack, draft, path.stem, min(crack.shape) // grid)
    return directory


def _cut(photo: np.ndarray, crack: np.ndarray, folder: Path, stem: str, size: int) -> None:
    for row in range(crack.shape[0] // size):
        for column in range(crack.shape[1] // size):
            place = np.s_[row * size : (row + 1) * size, column * size : (column + 1) * size]
            share = crack[place].mean()
            if 0 < share < _LEAST_CRACK:
                continue
            name = "crack" if share else "no_crack"
            Image.fromarray(photo[place]).save(folder / name / f"{stem}-{row}-{column}.png")
