"""Drawn patches and photos of concrete, to try everything on."""

from drawn_concrete.write import write_photos as write_photos
from drawn_concrete.write import write_sample as write_sample
