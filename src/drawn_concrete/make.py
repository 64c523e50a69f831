"""One drawn patch or photo of concrete, with the mask of its cracks."""

import numpy as np
import numpy.typing as npt

from drawn_concrete import concrete
from drawn_concrete.clutter import CLUTTER
from drawn_concrete.drawing import Array
from drawn_concrete.joints import JOINTED
from drawn_concrete.lookalikes import LOOKALIKES

_LEAST_SIDE = 32  # Pixels: room for a crack.
_LEAST_CRACK = 40  # Pixels of crack in a cracked patch.
_THINGS = LOOKALIKES + CLUTTER


def make_patch(
    rng: np.random.Generator, cracked: bool, size: int = 227, hard: bool = False
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draws one concrete patch and the mask of its crack.

    Args:
        rng: source of randomness; the same state gives the same patch.
        cracked: whether to draw a crack.
        size: side of the square patch in pixels, at least 32.
        hard: whether joints or look-alikes are on every patch, and not on two of five.

    Returns:
        The RGB image, uint8 of shape (size, size, 3), and the crack mask, bool of shape
        (size, size), which is False everywhere unless `cracked`.

    Raises:
        ValueError: when `size` is below 32.

    Example:

    ```python
    image, mask = make_patch(np.random.default_rng(0), cracked=True)
    print(image.shape, f"{mask.mean():.1%} of the patch is crack")
    ```
    """
    if size < _LEAST_SIDE:
        raise ValueError(f"size must be at least {_LEAST_SIDE} pixels. Received: size={size}.")
    shape = (size, size)
    canvas = concrete.surface(rng, shape)
    if hard or rng.random() < (0.35 if cracked else 0.45):
        canvas = distract(rng, canvas)
    mask = np.zeros(shape, bool)
    while cracked and (mask.sum() < _LEAST_CRACK or rng.random() < 0.1):
        canvas = _add_crack(rng, canvas, mask)
    return concrete.photograph(rng, canvas), mask


def make_photo(
    rng: np.random.Generator, cracked: bool, shape: tuple[int, int] = (1500, 2000)
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Draws one whole photo of concrete and the mask of its cracks.

    Cracks and look-alikes have the same size in pixels as in patches, and are as rare as on a
    wall: up to three look-alikes, and one or two cracks.

    Args:
        rng: source of randomness; the same state gives the same photo.
        cracked: whether to draw cracks.
        shape: (height, width) in pixels, each at least 32.

    Returns:
        The RGB image, uint8 of shape (height, width, 3), and the crack mask, bool of shape
        (height, width).

    Raises:
        ValueError: when a side is below 32.

    Example:

    ```python
    image, mask = make_photo(np.random.default_rng(0), cracked=True)
    ```
    """
    if min(shape) < _LEAST_SIDE:
        raise ValueError(f"shape must be at least {_LEAST_SIDE} each way. Received: shape={shape}.")
    canvas = concrete.surface(rng, shape)
    if rng.random() < 0.6:
        canvas = distract(rng, canvas)
    mask = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 3) if cracked else 0):
        canvas = _add_crack(rng, canvas, mask)
    return concrete.photograph(rng, canvas), mask


def distract(rng: np.random.Generator, canvas: Array) -> Array:
    """Adds joints or one to three things which are no cracks but may be taken for one.

    Args:
        rng: source of randomness.
        canvas: the surface, of shape (3, height, width).
    """
    count = rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15])
    if rng.random() < 0.5:
        canvas = JOINTED[rng.integers(len(JOINTED))](rng, canvas)
        count -= 1
    return add_things(rng, canvas, count)


def add_things(rng: np.random.Generator, canvas: Array, count: int) -> Array:
    """Adds things which are no cracks but may be taken for one, no two of a kind, and no joints.

    Args:
        rng: source of randomness.
        canvas: the surface, of shape (3, height, width).
        count: number of things.
    """
    for index in rng.choice(len(_THINGS), count, replace=False):
        canvas = _THINGS[index](rng, canvas)
    return canvas


def _add_crack(rng: np.random.Generator, canvas: Array, mask: npt.NDArray[np.bool_]) -> Array:
    hairline = rng.random() < 0.1
    width = rng.uniform(1.5, 4) if hairline else min(25, rng.lognormal(2.25, 0.55))
    coverage, side = concrete.crack(rng, mask.shape, width)
    mask |= coverage > 0.5
    return concrete.carve(rng, canvas, coverage, side, width)
