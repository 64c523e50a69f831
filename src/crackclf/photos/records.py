"""The results of an inspected photo with sizes in millimetres, as rows of tables and as shapes."""

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from crackclf.errors import UserError, counted

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
SIZES = ("length", "mean_width", "max_width")
_FILM = math.hypot(36, 24)  # Diagonal of 35 mm film in mm, to which focal lengths refer.


@dataclass(frozen=True)
class Scale:
    """How sizes in pixels become sizes on the surface, as in the arguments of `inspect_photos`."""

    mm_per_pixel: float | None = None
    distance: float | None = None
    width_classes: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        bounds = self.width_classes
        for name, value in (("mm_per_pixel", self.mm_per_pixel), ("distance", self.distance)):
            if value is not None and not 0 < value < 1e6:
                raise UserError(f"{name} must be above 0 and below a million. Received: {value}.")
        if self.mm_per_pixel is not None and self.distance is not None:
            raise UserError("expected mm_per_pixel or distance. Received: both.")
        if list(bounds) != sorted({x for x in bounds if 0 < x < 1e6}):
            raise UserError(f"width_classes must rise from above 0, in mm. Received: {bounds}.")
        if bounds and self.mm_per_pixel is None and self.distance is None:
            raise UserError("width_classes are in millimetres: give mm_per_pixel or distance too.")


def add_sizes(record: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Adds millimetres and square metres to the record of a photo, when its scale is known."""
    mm_per_pixel, bounds = scale.mm_per_pixel, scale.width_classes
    if scale.distance is not None and record["focal_length"]:
        diagonal = math.hypot(record["width"], record["height"])
        mm_per_pixel = round(1000 * scale.distance * _FILM / record["focal_length"] / diagonal, 6)
    if mm_per_pixel is None:
        return {**record, "mm_per_pixel": None}
    names: list[str | None] = [None]
    if bounds:
        middle = [f"{low:g} to {high:g} mm" for low, high in pairwise(bounds)]
        names = [f"under {bounds[0]:g} mm", *middle, f"from {bounds[-1]:g} mm"]
    square_metres = mm_per_pixel**2 / 1e6
    regions, cracks = [], []
    for region in record["regions"]:
        left, top, right, bottom = region["box"]
        sides = [round(side * mm_per_pixel, 1) for side in (right - left, bottom - top)]
        area = round(region["area"] * square_metres, 6)
        regions.append({**region, "area_m2": area, "box_mm": sides})
    for crack in record["cracks"]:
        sizes = {f"{name}_mm": crack[f"{name}_px"] for name in SIZES}
        sizes |= {"width_error_mm": 0.5}  # Pixels: an edge is not known more precisely.
        sizes = {key: None if x is None else round(x * mm_per_pixel, 3) for key, x in sizes.items()}
        width = sizes["max_width_mm"]
        name = None if width is None else names[bisect.bisect_right(bounds, width)]
        cracks.append({**crack, **sizes, "width_class": name})
    area = round(record["area_px"] * square_metres, 6)
    sizes = {"mm_per_pixel": mm_per_pixel, "area_m2": area}
    return {**record, **sizes, "regions": regions, "cracks": cracks}


def to_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record by `COLUMNS`, with the sums of its cracks; None where nothing is known."""
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


def sum_up(row: Mapping[str, Any]) -> str:
    """The cracks of a photo's row in words; empty when it has none."""
    count, unit = row["cracks"], "px" if row["length_mm"] is None else "mm"
    if not count:
        return "no crack could be traced" if row["regions"] else ""
    text = f"{counted(count, 'crack')}, {row[f'length_{unit}']:,.0f} {unit} long"
    width = row[f"max_width_{unit}"]
    return text if width is None else f"{text}, up to {width:.1f} {unit} wide"


def to_crack_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The cracks of a photo's record, for a table of `CRACK_COLUMNS`, numbered from 1."""
    for number, crack in enumerate(record.get("cracks", ()), 1):
        sides = zip(("left", "top", "right", "bottom"), crack["box"], strict=True)
        yield {"file": record["file"], "crack": number, **crack, **dict(sides)}


def to_annotations(record: Mapping[str, Any], image: int, first: int) -> Iterator[dict[str, Any]]:
    """The cracks of a photo's record as annotations of COCO, numbered from `first`."""
    for number, crack in enumerate(record.get("cracks", ()), first):
        left, top, right, bottom = crack["box"]
        yield {
            **{"id": number, "image_id": image, "category_id": 1},
            "bbox": [left, top, round(right - left, 1), round(bottom - top, 1)],
            "area": round(crack["length_px"] * (crack["mean_width_px"] or 1), 1),
            "iscrowd": 0,
            "segmentation": [_outline(line, crack["mean_width_px"]) for line in crack["lines"]],
        }


def _outline(line: Sequence[Any], mean_width: float | None) -> list[float]:
    """The outline of a line of a crack, as wide as it is: x, y, x, y and so on."""
    points = np.array([point[:2] for point in line])
    widths = np.array([width or mean_width or 1 for *_, width in line])
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    across = along[:, ::-1] * (-1, 1) * np.maximum(widths / 2, 0.5)[:, None]
    return np.concatenate([points + across, (points - across)[::-1]]).round(1).ravel().tolist()


def to_feature(row: Mapping[str, Any]) -> dict[str, Any]:
    """A GeoJSON feature (RFC 7946) of a row: the point where the photo was taken."""
    place = [row[name] for name in ("longitude", "latitude", "altitude") if row[name] is not None]
    names = ["file", "verdict", "probability", "taken", "cracks", "length_px", "max_width_px"]
    names += [name for name in ("length_mm", "max_width_mm") if row[name] is not None]
    geometry = {"type": "Point", "coordinates": place}
    properties = {name: row[name] for name in names}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
