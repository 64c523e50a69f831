"""What is told of an inspected photo and its cracks: as JSON, as rows of tables, as GeoJSON."""

import bisect
import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crackclf.errors import UserError, counted
from crackclf.inspection.trace import Crack

COLUMNS = (
    *("file", "verdict", "probability", "cracks", "length_px", "max_width_px"),
    *("length_mm", "max_width_mm", "mm_per_pixel", "regions", "area_px", "area_share", "area_m2"),
    *("width", "height", "taken", "camera", "latitude", "longitude", "altitude", "error"),
)
CRACK_COLUMNS = (
    *("file", "crack", "probability", "length_px", "mean_width_px", "max_width_px"),
    *("length_mm", "mean_width_mm", "max_width_mm", "width_error_mm", "width_class"),
    *("angle", "left", "top", "right", "bottom"),
)
_SIZES = ("length", "mean_width", "max_width")
_FILM = math.hypot(36, 24)  # Diagonal of 35 mm film in mm, to which focal lengths refer.
_WIDTH_ERROR = 0.5  # Pixels. No edge is seen more precisely, nor is a pixel any sharper.


@dataclass(frozen=True)
class Scale:
    """What makes millimetres of the pixels of photos.

    Attributes:
        mm_per_pixel: millimetres on the surface for a pixel, of all photos.
        distance: metres from the camera to the surface, where that is not known. With the focal
            length that a photo names, it gives the photo's scale, if the photo was not cropped.
        width_classes: where classes of crack widths begin and end, in millimetres.

    Raises:
        UserError: when a value cannot be, or there are classes without a scale.
    """

    mm_per_pixel: float | None = None
    distance: float | None = None
    width_classes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("mm_per_pixel", self.mm_per_pixel), ("distance", self.distance)):
            if value is not None and not 0 < value < 1e6:
                raise UserError(f"{name} must be above 0 and below a million. Received: {value}.")
        if self.mm_per_pixel is not None and self.distance is not None:
            raise UserError("expected mm_per_pixel or distance. Received: both.")
        bounds = self.width_classes
        if list(bounds) != sorted({x for x in bounds if 0 < x < 1e6}):
            raise UserError(
                f"width_classes must rise from above 0, in millimetres. Received: {bounds}."
            )
        if bounds and self.mm_per_pixel is None and self.distance is None:
            raise UserError("width_classes are in millimetres: give mm_per_pixel or distance too.")

    def of(self, record: Mapping[str, Any]) -> float | None:
        """Millimetres on the surface for a pixel of a photo; None when that is not known."""
        if self.distance is None or not record["focal_length"]:
            return self.mm_per_pixel
        diagonal = math.hypot(record["width"], record["height"])
        return round(1000 * self.distance * _FILM / record["focal_length"] / diagonal, 6)

    def classify(self, width: float | None) -> str | None:
        """The class of a width in millimetres."""
        if width is None or not self.width_classes:
            return None
        names = [f"under {self.width_classes[0]:g} mm"]
        names += [f"{low:g} to {high:g} mm" for low, high in pairwise(self.width_classes)]
        names.append(f"from {self.width_classes[-1]:g} mm")
        return names[bisect.bisect_right(self.width_classes, width)]


def to_record(crack: Crack) -> dict[str, Any]:
    """A crack, ready for JSON."""
    record = dataclasses.asdict(crack) | {"probability": round(crack.probability, 6)}
    return {f"{key}_px" if key in _SIZES else key: value for key, value in record.items()}


def add_sizes(record: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Adds what depends on the scale: cracks and boxes in millimetres, areas in square metres.

    Args:
        record: of a photo, as `Inspection.to_dict` gives it without a scale.
        scale: when it is not known for this photo, nothing is added.
    """
    mm_per_pixel = scale.of(record)
    if mm_per_pixel is None:
        return {**record, "mm_per_pixel": None}
    square_metres = mm_per_pixel**2 / 1e6
    regions = []
    for region in record["regions"]:
        left, top, right, bottom = region["box"]
        sides = [round(side * mm_per_pixel, 1) for side in (right - left, bottom - top)]
        area = round(region["area"] * square_metres, 6)
        regions.append({**region, "area_m2": area, "box_mm": sides})
    cracks = []
    for crack in record["cracks"]:
        sizes = {name: crack[f"{name}_px"] for name in _SIZES} | {"width_error": _WIDTH_ERROR}
        in_mm = {
            f"{name}_mm": None if size is None else round(size * mm_per_pixel, 3)
            for name, size in sizes.items()
        }
        width_class = scale.classify(in_mm["max_width_mm"])
        cracks.append(crack | in_mm | {"width_class": width_class})
    area = round(record["area_px"] * square_metres, 6)
    told = {"mm_per_pixel": mm_per_pixel, "area_m2": area}
    return {**record, **told, "regions": regions, "cracks": cracks}


def to_polygons(crack: Mapping[str, Any]) -> list[list[float]]:
    """The outline of each line of a crack, as wide as it is: x, y, x, y and so on, as in COCO."""
    polygons = []
    for line in crack["lines"]:
        points = np.array([point[:2] for point in line])
        known = [crack["mean_width_px"] if wide is None else wide for *_, wide in line]
        half = np.maximum(np.array([wide or 1.0 for wide in known]) / 2, 0.5)[:, None]
        along = np.gradient(points, axis=0)
        across = along[:, ::-1] / np.maximum(np.hypot(*along.T), 1e-9)[:, None] * (-1, 1) * half
        outline = np.concatenate([points + across, (points - across)[::-1]])
        polygons.append(outline.round(1).ravel().tolist())
    return polygons


def to_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record by `COLUMNS`, with what its cracks sum up to; None where nothing is known."""
    row = {name: record.get(name) for name in COLUMNS} | {"error": record.get("error", "")}
    if row["error"]:
        return row
    cracks = record["cracks"]
    row |= {"regions": len(record["regions"]), "cracks": len(cracks)}
    for unit in ("px", "mm") if "area_m2" in record else ("px",):
        row[f"length_{unit}"] = round(sum(crack[f"length_{unit}"] for crack in cracks), 3)
        widths = [x for crack in cracks if (x := crack[f"max_width_{unit}"]) is not None]
        row[f"max_width_{unit}"] = max(widths, default=None)
    return row


def to_crack_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The cracks of a photo's record by `CRACK_COLUMNS`; they are numbered from 1."""
    for number, crack in enumerate(record.get("cracks", ()), 1):
        sides = zip(("left", "top", "right", "bottom"), crack["box"], strict=True)
        known = {"file": record["file"], "crack": number, **crack, **dict(sides)}
        yield {name: known.get(name) for name in CRACK_COLUMNS}


def sum_up(row: Mapping[str, Any]) -> str:
    """The cracks of a photo's row in words; empty when it has none."""
    count, unit = row["cracks"], "px" if row["length_mm"] is None else "mm"
    if not count:
        return "no crack could be traced" if row["regions"] else ""
    text = f"{counted(count, 'crack')}, {row[f'length_{unit}']:,.0f} {unit} long"
    width = row[f"max_width_{unit}"]
    return text if width is None else f"{text}, up to {width:.1f} {unit} wide"


def to_feature(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A GeoJSON feature (RFC 7946): the point where a photo was taken; None when not known.

    Where on the ground its regions are cannot be known from that.
    """
    if row["latitude"] is None:
        return None
    place = [row["longitude"], row["latitude"]]
    if row["altitude"] is not None:
        place.append(row["altitude"])
    names = ("file", "verdict", "probability", "taken", "cracks", "length_px", "max_width_px")
    in_mm = ("length_mm", "max_width_mm")
    names += tuple(name for name in in_mm if row[name] is not None)
    properties = {name: row[name] for name in names}
    geometry = {"type": "Point", "coordinates": place}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
