"""What memory decoding takes, and that threads together take no more than there may be."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from crackclf.errors import UserError
from crackclf.images.exif import turn_of

_MEMORY = 1_400_000_000  # Bytes that decoding may take, of all threads together.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # As Pillow keeps them; others 4.
_DECODER_BYTES = {"WEBP": 12, "TIFF": 4, "HEIF": 8}  # By the side of that, while they decode.


def estimate(image: Image.Image) -> int:
    """Bytes that an opened image will take at most until it is RGB and upright."""
    pixel = _PIXEL_BYTES.get(image.mode, 4)
    # To look for its EXIF, Pillow would decode a PNG that has none before its pixels.
    may_turn = image.format != "PNG" or "exif" in image.info
    turned = pixel if may_turn and turn_of(image) is not None else 0
    converted = 0 if image.mode == "RGB" and not image.has_transparency_data else 4
    decoder = _DECODER_BYTES.get(image.format or "", 0)
    if image.info.get("progressive"):  # Its coefficients, of 2 bytes each.
        decoder = 2 * len(image.getbands())
    need = image.width * image.height * (pixel + max(turned + converted, decoder))
    if need > _MEMORY:
        raise UserError(
            f"would take {need / 1e6:,.0f} MB to decode (limit {_MEMORY / 1e6:,.0f} MB); make it "
            "smaller"
        )
    return need


class _Budget:
    """Memory that threads take together; one waits until there is enough of it."""

    def __init__(self) -> None:
        self._free, self._changed = _MEMORY, threading.Condition()

    @contextmanager
    def holding(self, need: int) -> Iterator[None]:
        """Takes memory until the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: need <= self._free)
            self._free -= need
        try:
            yield
        finally:
            with self._changed:
                self._free += need
                self._changed.notify_all()


BUDGET = _Budget()
if hasattr(os, "register_at_fork"):  # The threads that hold it are not there in a fork.
    os.register_at_fork(after_in_child=BUDGET.__init__)
