"""The results of an inspected photo with sizes in millimetres, as rows of tables and as shapes."""

import bisect
import csv
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.errors import UserError, counted, show
from crackclf.files import user_path

COLUMNS = (
    *("file", "verdict", "probability", "cracks", "length_px", "max_width_px"),
    *("length_mm", "max_width_mm", "mm_per_pixel", "regions", "area_px", "area_share", "area_m2"),
    *("width", "height", "taken", "camera", "latitude", "longitude", "altitude"),
    *("quality", "error"),
)
CRACK_COLUMNS = (
    *("file", "crack", "probability", "length_px", "mean_width_px", "max_width_px"),
    *("width_low_px", "width_high_px", "length_mm", "mean_width_mm", "max_width_mm"),
    *("width_low_mm", "width_high_mm", "width_class", "main_length_px", "main_length_mm"),
    *("widest_x", "widest_y", "angle", "left", "top", "right", "bottom", "review", "remark"),
)
# Limits of crack widths in mm: ACI 224R-01, table 4.1 (water retaining, seawater, de-icing salt,
# humid air or soil, dry air); EN 1992-1-1, table 7.1N (prestressed, XC2 and above, X0 and XC1).
WIDTH_CLASSES = {"aci224r": (0.1, 0.15, 0.18, 0.3, 0.41), "eurocode2": (0.2, 0.3, 0.4)}
REVIEWS = ("right", "wrong", "unsure")
SIZES = ("length", "main_length", "mean_width", "max_width", "width_low", "width_high")
_FILM = math.hypot(36, 24)  # Diagonal of 35 mm film in mm, to which focal lengths refer.


@dataclass(frozen=True)
class Scale:
    """How sizes in pixels become sizes on the surface, as in the arguments of `inspect_photos`."""

    mm_per_pixel: float | None = None
    distance: float | None = None
    width_classes: tuple[float, ...] = ()
    by_file: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bounds = self.width_classes
        given = [("mm_per_pixel", self.mm_per_pixel), ("distance", self.distance)]
        for name, value in (*given, *self.by_file.items()):
            if value is not None and not 0 < value < 1e6:
                raise UserError(f"{name} must be above 0 and below a million. Received: {value}.")
        if self.mm_per_pixel is not None and self.distance is not None:
            raise UserError("expected mm_per_pixel or distance. Received: both.")
        if list(bounds) != sorted({x for x in bounds if 0 < x < 1e6}):
            raise UserError(f"width_classes must rise from above 0, in mm. Received: {bounds}.")
        if bounds and all(value is None for _, value in given) and not self.by_file:
            raise UserError("width_classes are in mm: give mm_per_pixel, distance or scale_file.")

    def of(self, record: Mapping[str, Any]) -> tuple[float | None, str]:
        """Millimetres per pixel of a photo; and, when they are not known, why."""
        file = Path(record["file"])
        for name in (str(file), file.name):
            if name in self.by_file:
                return self.by_file[name], ""
        if self.distance is None:
            return self.mm_per_pixel, "is not in the scale file" if self.by_file else ""
        if record.get("no_scale"):
            return None, record["no_scale"]
        if not record["focal_length"]:
            return None, "has no focal length in its EXIF"
        diagonal = math.hypot(record["width"], record["height"])
        return round(1000 * self.distance * _FILM / record["focal_length"] / diagonal, 6), ""


def read_scales(file: str | os.PathLike) -> dict[str, float]:
    """Reads a table with the columns `file` and `mm_per_pixel`: a photo's path or name, and mm."""
    needed = "expected a CSV file with the columns file and mm_per_pixel, such as wall.jpg,0.4"
    return dict(_read_table(file, needed, lambda row: (row["file"], float(row["mm_per_pixel"]))))


def read_reviews(file: str | os.PathLike) -> dict[str, dict[str, dict[str, str]]]:
    """Reads the table that the report saves: by photo and number of a crack, review and remark."""

    def read(row: Mapping[str, str]) -> tuple[str, str, dict[str, str]]:
        if row["review"] not in ("", *REVIEWS):
            raise ValueError(f"a review is {', '.join(REVIEWS)} or empty, not {row['review']}")
        mark = {"review": row["review"], "remark": row["remark"]}
        return row["file"], str(int(row["crack"])), mark

    found = defaultdict(dict)
    for name, number, mark in _read_table(file, "expected the table that report.html saves", read):
        found[name][number] = mark
    return found


def list_sound(file: str | os.PathLike) -> list[str]:
    """The photos of a reviewed table on which every crack was called wrong."""
    reviews = read_reviews(file).items()
    return [name for name, marks in reviews if all(x["review"] == "wrong" for x in marks.values())]


def _read_table(file: str | os.PathLike, needed: str, read: Callable[[dict], Any]) -> list[Any]:
    path = user_path(file)
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            if rows := [read(row) for row in csv.DictReader(text)]:
                return rows
        raise ValueError("it has no rows")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{show(path)}: {needed} ({error}).") from None


def add_sizes(
    record: Mapping[str, Any], mm_per_pixel: float | None, bounds: Sequence[float] = ()
) -> dict[str, Any]:
    """Adds millimetres and square metres to the record of a photo, when its scale is known."""
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
        sizes = {key: None if x is None else round(x * mm_per_pixel, 3) for key, x in sizes.items()}
        width = sizes["max_width_mm"] or sizes["width_high_mm"]
        name = None if width is None else names[bisect.bisect_right(bounds, width)]
        cracks.append({**crack, **sizes, "width_class": name})
    area = round(record["area_px"] * square_metres, 6)
    sizes = {"mm_per_pixel": mm_per_pixel, "area_m2": area}
    if bounds and mm_per_pixel > bounds[0]:
        coarse = f"is coarse: a pixel is {mm_per_pixel:.3g} mm, so {names[0]} cannot be seen"
        sizes["quality"] = "; ".join(filter(None, (record.get("quality"), coarse)))
    return {**record, **sizes, "regions": regions, "cracks": cracks}


def to_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record by `COLUMNS`, with the sums of its cracks; None where nothing is known."""
    row = {name: record.get(name) for name in COLUMNS} | {"error": record.get("error", "")}
    if row["error"] or row["verdict"] is None:
        return row
    cracks = [crack for crack in record["cracks"] if crack.get("review") != "wrong"]
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
        x, y = crack["widest"] or (None, None)
        place = {"widest_x": x, "widest_y": y, **dict(sides)}
        yield {"file": record["file"], "crack": number, **crack, **place}


def to_annotations(record: Mapping[str, Any], image: int, first: int) -> Iterator[dict[str, Any]]:
    """The cracks of a photo's record as annotations of COCO, numbered from `first`."""
    cracks = (x for x in record.get("cracks", ()) if x.get("review") != "wrong")
    size = (record.get("width"), record.get("height"))
    for number, crack in enumerate(cracks, first):
        outlines = [_outline(line, crack["mean_width_px"], size) for line in crack["lines"]]
        (left, top), (right, bottom) = (
            end(np.concatenate(outlines), axis=0).tolist() for end in (np.min, np.max)
        )
        yield {
            **{"id": number, "image_id": image, "category_id": 1},
            "bbox": [left, top, round(right - left, 1), round(bottom - top, 1)],
            "area": round(crack["length_px"] * (crack["mean_width_px"] or 1), 1),
            "iscrowd": 0,
            "segmentation": [outline.ravel().tolist() for outline in outlines],
        }


def _outline(line: Sequence[Any], mean_width: float | None, size: Any) -> np.ndarray:
    """The outline of a line of a crack, as wide as it is, inside the photo: corners (n, 2)."""
    points = np.array([point[:2] for point in line])
    widths = np.array([width or mean_width or 1 for *_, width in line])
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    across = along[:, ::-1] * (-1, 1) * np.maximum(widths / 2, 0.5)[:, None]
    corners = np.concatenate([points + across, (points - across)[::-1]])
    return np.clip(corners, 0, size).round(1)
