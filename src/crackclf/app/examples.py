"""Pictures for those who have none at hand, drawn when they are asked for."""

from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.sample.make import make_patch, make_photo

# By the name of the button: seed, and whether there is a crack.
EXAMPLES = {
    "Photo with cracks": (4, True),
    "Photo of sound concrete": (4, False),
    "Patch with a crack": (5, True),
}
_SHAPE = (750, 1000)


def draw_example(name: str, patch: int, folder: Path) -> Path:
    """Draws one of `EXAMPLES`.

    Args:
        name: of the example.
        patch: pixels of a side of a patch.
        folder: for the file.
    """
    seed, cracked = EXAMPLES[name]
    rng = np.random.default_rng(seed)
    if name.startswith("Patch"):
        pixels, _ = make_patch(rng, cracked, patch)
    else:
        pixels, _ = make_photo(rng, cracked, _SHAPE)
    path = folder / f"{name}.jpg"
    Image.fromarray(pixels).save(path, quality=90)
    return path
