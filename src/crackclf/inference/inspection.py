"""A whole photo: where its cracks are, and whether it shows any."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.data.exif import PhotoInfo, photo_info
from crackclf.data.images import read_photo, to_rgb
from crackclf.errors import UserError
from crackclf.evaluation.calibration import choose_region_threshold
from crackclf.inference.maps import map_cracks
from crackclf.inference.regions import Region, find_regions
from crackclf.models.saving import Classifier

FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Inspection:
    """What was found on one photo, EXIF orientation applied.

    Attributes:
        file: its path; empty when it came as an array.
        verdict: the class that it is called as a whole: the cracked one when there is a region.
        probability: map of the probability of a crack, float32 of shape (rows, columns): of each
            cell of the photo, whether there is one in it or next to it.
        stride: (x, y) distance of neighbouring cells in pixels of the photo.
        affine: (a, b, c, d, e, f): the centre of the cell in a row and column is at x = a * column
            + b * row + c, y = d * column + e * row + f, in pixels from the upper left corner.
        regions: cracked regions, the most probable first.
        threshold: probability that a region reaches out to.
        region_threshold: probability above which its peak must be.
        width: of the photo in pixels.
        height: likewise.
        info: when, where and with what it was taken.
    """

    file: str
    verdict: str
    probability: np.ndarray
    stride: tuple[float, float]
    affine: tuple[float, float, float, float, float, float]
    regions: tuple[Region, ...]
    threshold: float
    region_threshold: float
    width: int
    height: int
    info: PhotoInfo


def inspect_photo(
    photo: str | os.PathLike | np.ndarray | Image.Image,
    classifier: Classifier,
    region_threshold: float | None = None,
    tile_by_tile: bool = False,
) -> Inspection:
    """Looks for cracks all over a photo.

    Args:
        photo: a file, an image, or an RGB array of shape (height, width, 3), uint8.
        classifier: from `load_model`.
        region_threshold: probability above which the peak of a region must be; by default the one
            at which one sound photo in twenty is called cracked, by the model's card.
        tile_by_tile: see `map_cracks`.

    Returns:
        An `Inspection`.

    Raises:
        UserError: when the photo cannot be read, or the model's card does not say what it makes of
            sound photos and no threshold is given.

    Example:

    ```python
    inspection = inspect_photo("bridge.jpg", load_model())
    print(inspection.verdict, [region.box for region in inspection.regions])
    ```
    """
    card = classifier.card
    if region_threshold is None:
        region_threshold = choose_region_threshold(card.sound_peaks, FALSE_ALARMS)
    file, info = "", PhotoInfo()
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[-1] != 3 or not photo.size:
            raise UserError(
                "expected an RGB photo, uint8 of shape (height, width, 3). Received: "
                f"{photo.dtype} of shape {photo.shape}."
            )
        image = Image.fromarray(photo)
    elif isinstance(photo, Image.Image):
        image, info = to_rgb(photo), photo_info(photo)
    else:
        file = str(photo)
        image, info = read_photo(photo)
    probability = map_cracks(image, classifier, tile_by_tile)
    regions = find_regions(probability, image.size, card.threshold, region_threshold)
    rows, columns = probability.shape
    stride = (image.width / columns, image.height / rows)
    sound = card.class_names[1 - card.class_names.index(card.positive_class)]
    return Inspection(
        file=file,
        verdict=card.positive_class if regions else sound,
        probability=probability,
        stride=stride,
        affine=(stride[0], 0, stride[0] / 2, 0, stride[1], stride[1] / 2),
        regions=regions,
        threshold=card.threshold,
        region_threshold=region_threshold,
        width=image.width,
        height=image.height,
        info=info,
    )


def measure_sound_peaks(
    photos: Sequence[str | os.PathLike], classifier: Classifier
) -> tuple[float, ...]:
    """The highest probability of a crack on each of some photos that show none.

    Args:
        photos: files of photos of sound surfaces, such as those to be inspected.
        classifier: from `load_model`.

    Returns:
        A probability for each, for `choose_region_threshold`.

    Raises:
        UserError: when one cannot be read.
    """
    from tqdm import tqdm

    peaks = []
    for path in tqdm(photos, "Measuring sound photos", unit=" photos"):
        peaks.append(round(float(map_cracks(read_photo(Path(path))[0], classifier).max()), 6))
    return tuple(peaks)
