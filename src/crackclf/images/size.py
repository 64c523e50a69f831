"""What may be the size of an image."""

from typing import Any

from crackclf.errors import UserError


def check_size(image_size: Any) -> int:
    """A side in pixels: an int, or two equal ones.

    Raises:
        UserError: when it is neither.
    """
    sides = [*image_size] if isinstance(image_size, tuple | list) else [image_size]
    if len(set(sides)) != 1 or not isinstance(sides[0], int) or sides[0] < 1:
        raise UserError(
            "image_size must be one number of pixels, at least 1: images are square. "
            f"Received: {image_size}."
        )
    return sides[0]
