"""Which images an export is measured on, and which it is quantised by."""

from collections.abc import Mapping, Sequence

import numpy as np

from crackclf.data.folders import ImageFile
from crackclf.errors import UserError


def choose_images(
    images: Sequence[ImageFile], split: Mapping[str, str], calibration: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses images to measure an exported model on, and others to quantise it by.

    It is measured on the images that the model was tested on or, when none of these is here, on
    all that it was not trained on. Byte-identical images are on one side.

    Args:
        images: of one folder.
        split: of the model, from `read_split`.
        calibration: how many to quantise by; 0 for none.
        seed: of the choice.

    Returns:
        Indices of the images to measure on, and of those to quantise by.

    Raises:
        UserError: when there are too few.
    """
    digests = np.array([image.digest for image in images])
    subsets = np.array([split.get(digest, "") for digest in digests])
    fresh = (subsets == "test") if "test" in subsets else (subsets == "")
    order = np.unique(digests, return_index=True)[1]
    order = np.random.default_rng(seed).permutation(order)
    # Those that cannot be measured on are quantised by first.
    order = order[np.argsort(fresh[order], kind="stable")]
    chosen = order[:calibration]
    measured = np.flatnonzero(fresh & ~np.isin(digests, digests[chosen]))
    if not len(measured) or len(chosen) < calibration:
        raise UserError(
            f"expected {calibration} images to quantise by and some more, on which the model was "
            f"not trained, to measure on. Received: {len(order)}, and it was not trained on "
            f"{np.count_nonzero(fresh[order])} of them."
        )
    return measured, chosen
