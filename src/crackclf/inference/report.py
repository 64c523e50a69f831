"""The inspection of many photos as page, table, JSON and GeoJSON."""

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crackclf.data.files import write_whole
from crackclf.errors import UserError

COLUMNS = (
    *("file", "verdict", "probability", "regions", "area_px", "area_share", "area_m2"),
    *("width", "height", "taken", "camera", "latitude", "longitude", "altitude", "error"),
)


def write_report(
    out: Path,
    settings: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
    photos: Sequence[dict[str, Any]],
) -> None:
    """Writes `report.html`, `photos.csv`, `inspection.json` and `positions.geojson`.

    Args:
        out: the folder.
        settings: of the inspection, `mm_per_pixel` included.
        parts: what there is of each photo, with its pictures.
        photos: the same without them; areas in square metres are filled in here.
    """
    mm_per_pixel = settings["mm_per_pixel"]
    for photo in photos:
        if not photo["error"]:
            add_areas(photo, mm_per_pixel)
    pictures = [
        photo | {key: part[key] for key in ("preview", "heat") if key in part}
        for part, photo in zip(parts, photos, strict=True)
    ]
    page = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    page = page.replace("<!--notes-->", _notes(settings, photos))
    # Nothing in the data may end the script that holds it.
    data = json.dumps(pictures, ensure_ascii=True).replace("<", "\\u003c")
    write_whole(out / "report.html", page.replace("/*photos*/[]", data))
    write_whole(out / "photos.csv", _table(photos))
    result = {"written_by": settings["written_by"], "settings": dict(settings), "photos": photos}
    write_whole(out / "inspection.json", json.dumps(result, indent=1) + "\n")
    positions = _positions(photos)
    if positions["features"]:
        write_whole(out / "positions.geojson", json.dumps(positions, indent=1) + "\n")


def check_scale(mm_per_pixel: float | None) -> None:
    """Refuses a scale that cannot be."""
    if mm_per_pixel is not None and not 0 < mm_per_pixel < 1e6:
        raise UserError(
            f"mm_per_pixel must be above 0 and below a million. Received: {mm_per_pixel}."
        )


def add_areas(photo: dict[str, Any], mm_per_pixel: float | None) -> None:
    """Fills in the areas of a photo and its regions, in square metres where the scale is known."""
    photo["area_px"] = round(sum(region["area"] for region in photo["regions"]), 1)
    photo["area_share"] = round(photo["area_px"] / (photo["width"] * photo["height"]), 6)
    if mm_per_pixel is not None:
        square_metres = mm_per_pixel**2 / 1e6
        photo["area_m2"] = round(photo["area_px"] * square_metres, 6)
        for region in photo["regions"]:
            left, top, right, bottom = region["box"]
            region["area_m2"] = round(region["area"] * square_metres, 6)
            region["box_mm"] = [
                round((right - left) * mm_per_pixel, 1),
                round((bottom - top) * mm_per_pixel, 1),
            ]


def _table(photos: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for photo in photos:
        count = {} if photo["error"] else {"regions": len(photo["regions"])}
        # A spreadsheet takes what begins so for a formula, and photos come from anywhere.
        texts = {
            key: f"'{value}"
            for key, value in photo.items()
            if isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
        }
        writer.writerow({**photo, **count, **texts})
    return text.getvalue()


def _positions(photos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """RFC 7946: a point where each photo was taken; of regions nobody knows where they are."""
    features = []
    for photo in photos:
        if photo.get("latitude") is None:
            continue
        place = [photo["longitude"], photo["latitude"]]
        if photo["altitude"] is not None:
            place.append(photo["altitude"])
        properties = {key: photo[key] for key in ("file", "verdict", "probability", "taken")}
        properties |= {"regions": len(photo["regions"])}
        properties |= {key: photo[key] for key in ("area_share", "area_m2") if key in photo}
        geometry = {"type": "Point", "coordinates": place}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _notes(settings: Mapping[str, Any], photos: Sequence[Mapping[str, Any]]) -> str:
    read = [photo for photo in photos if not photo["error"]]
    cracked = sum(photo["verdict"] == settings["positive_class"] for photo in read)
    scale = settings["mm_per_pixel"]
    lines = [
        f"{len(photos):,} photos: {cracked:,} with cracks, {len(read) - cracked:,} without, "
        f"{len(photos) - len(read):,} that could not be read.",
        f"A region is called a crack where the probability rises above "
        f"{settings['region_threshold']:.4g}, and reaches out to {settings['threshold']:.2g}. "
        f"At most {settings['false_alarms']:.3g} of the photos of sound surfaces are then called "
        f"cracked, if they are like the {settings['sound_photos']} on which that was measured.",
        f"Probabilities are calibrated with temperature {settings['temperature']:.3g}. The area of "
        "a region is that of the outlined part of the photo, which is wider than the crack in it.",
        f"1 pixel = {scale:g} mm."
        if scale is not None
        else "Sizes are in pixels of the photo: its scale is not known.",
        f"Model {settings['model'][:12]}, {settings['written_by']}. What a model calls a crack, or "
        "passes, needs a person's eye before anybody relies on it.",
    ]
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)
