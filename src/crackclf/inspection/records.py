"""What is told of an inspected photo: as JSON, as a row of a table, as GeoJSON."""

from collections.abc import Mapping
from typing import Any

from crackclf.errors import UserError

COLUMNS = (
    *("file", "verdict", "probability", "regions", "area_px", "area_share", "area_m2"),
    *("width", "height", "taken", "camera", "latitude", "longitude", "altitude", "error"),
)


def check_scale(mm_per_pixel: float | None) -> None:
    """Refuses a scale that cannot be."""
    if mm_per_pixel is not None and not 0 < mm_per_pixel < 1e6:
        raise UserError(
            f"mm_per_pixel must be above 0 and below a million. Received: {mm_per_pixel}."
        )


def add_sizes(record: Mapping[str, Any], mm_per_pixel: float | None) -> dict[str, Any]:
    """Adds what depends on the scale: areas in square metres, boxes in millimetres.

    Args:
        record: of a photo, as `Inspection.to_dict` gives it without a scale.
        mm_per_pixel: the scale; None when it is not known, and nothing is added.
    """
    if mm_per_pixel is None:
        return dict(record)
    square_metres = mm_per_pixel**2 / 1e6
    regions = []
    for region in record["regions"]:
        left, top, right, bottom = region["box"]
        sides = [round(side * mm_per_pixel, 1) for side in (right - left, bottom - top)]
        area = round(region["area"] * square_metres, 6)
        regions.append({**region, "area_m2": area, "box_mm": sides})
    area = round(record["area_px"] * square_metres, 6)
    return {**record, "area_m2": area, "regions": regions}


def to_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record by `COLUMNS`, with the number of its regions; None where nothing is known."""
    row = {name: record.get(name) for name in COLUMNS} | {"error": record.get("error", "")}
    return row if row["error"] else row | {"regions": len(record["regions"])}


def to_feature(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A GeoJSON feature (RFC 7946): the point where a photo was taken; None when not known.

    Where on the ground its regions are cannot be known from that.
    """
    if row["latitude"] is None:
        return None
    place = [row["longitude"], row["latitude"]]
    if row["altitude"] is not None:
        place.append(row["altitude"])
    names = ("file", "verdict", "probability", "taken", "regions", "area_share")
    properties = {name: row[name] for name in names}
    if row["area_m2"] is not None:
        properties["area_m2"] = row["area_m2"]
    geometry = {"type": "Point", "coordinates": place}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
