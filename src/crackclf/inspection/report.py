"""The inspection of many photos as page, tables, JSON and GeoJSON."""

import html
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from crackclf.files import format_table, write_whole, writing
from crackclf.inspection.records import (
    COLUMNS,
    CRACK_COLUMNS,
    to_crack_rows,
    to_feature,
    to_polygons,
)

_PICTURES = ("preview", "heat", "crops")


def write_report(
    out: Path,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    read_records: Callable[[], Iterator[dict[str, Any]]],
) -> None:
    """Writes `report.html`, the tables, `inspection.json`, the COCO file, `positions.geojson`.

    Args:
        out: the folder.
        settings: of the inspection, those of its `Scale` included.
        rows: a row of the table for each photo.
        read_records: gives the record of each photo, with its pictures; one at a time, as those
            of all photos may not fit into memory.
    """
    page = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    page = page.replace("<!--notes-->", _notes(settings, rows))
    before, _, after = page.partition("<!--photos-->")
    head = json.dumps({"written_by": settings["written_by"], "settings": dict(settings)})
    cracks: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    with (
        writing(out / "report.html") as shown,
        writing(out / "inspection.json") as told,
        writing(out / "cracks.coco.json") as coco,
    ):
        coco.write(b'{"annotations": [')
        shown.write(before.encode())
        told.write(f'{head[:-1]}, "photos": ['.encode())
        for number, record in enumerate(read_records()):
            for count, annotation in enumerate(_annotate(record, number + 1), len(cracks) + 1):
                coco.write(
                    f"{',' * (count > 1)}\n{json.dumps({'id': count} | annotation)}".encode()
                )
            if not record["error"]:
                known = {key: record[key] for key in ("width", "height")}
                images.append({"id": number + 1, "file_name": record["file"]} | known)
            cracks += to_crack_rows(record)
            pictures = {name: record.pop(name) for name in _PICTURES if name in record}
            pictures["original"] = link_to(record["file"], out)
            told.write(f"{',' * (number > 0)}\n{json.dumps(record)}".encode())
            shown.write(f"{_data(record)}{_data(pictures)}\n".encode())
        told.write(b"\n]}\n")
        shown.write(after.encode())
        rest = {"images": images, "categories": [{"id": 1, "name": settings["positive_class"]}]}
        coco.write(f"\n], {json.dumps(rest)[1:]}\n".encode())
    write_whole(out / "photos.csv", format_table(COLUMNS, rows))
    write_whole(out / "cracks.csv", format_table(CRACK_COLUMNS, cracks))
    features, place = [x for x in map(to_feature, rows) if x], out / "positions.geojson"
    if features:
        positions = {"type": "FeatureCollection", "features": features}
        write_whole(place, json.dumps(positions, indent=1) + "\n")
    else:
        place.unlink(missing_ok=True)  # Of an earlier run, with other photos.


def link_to(file: str, out: Path) -> str:
    """The way from the report to the original photo, as long as neither is moved."""
    try:
        return quote(Path(os.path.relpath(file, out)).as_posix())
    except ValueError:  # On another drive.
        return ""


def _data(value: Mapping[str, Any]) -> str:
    # Nothing in the data may end the element that holds it.
    text = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'


def _notes(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    read = [row for row in rows if not row["error"]]
    cracked = sum(row["verdict"] == settings["positive_class"] for row in read)
    lines = [
        f"{len(rows):,} photos: {cracked:,} with cracks, {len(read) - cracked:,} without, "
        f"{len(rows) - len(read):,} that could not be read. {_totals(read)}",
        f"A region is called a crack where the probability rises above "
        f"{settings['region_threshold']:.4g}, and reaches out to {settings['threshold']:.2g}. "
        + _promise(settings),
        f"Probabilities are calibrated with temperature {settings['temperature']:.3g}. A region is "
        "wider than the crack in it. Where it has no line, no crack could be traced in it.",
        _scale(settings, read),
        f"Model {settings['model'][:12]}, {settings['written_by']}. What a model calls a crack, or "
        "passes, needs a person's eye before anybody relies on it.",
    ]
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _promise(settings: Mapping[str, Any]) -> str:
    if settings["false_alarms"] is None:
        return (
            "That was chosen by hand: how many sound photos are then called cracked is not known."
        )
    return (
        f"At most {settings['false_alarms']:.3g} of the photos of sound surfaces are then called "
        f"cracked, if they are like the {settings['sound_photos']} on which that was measured."
    )


def _scale(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    known = [row["mm_per_pixel"] for row in rows if row["mm_per_pixel"] is not None]
    error = "A width is known to half a pixel at best"
    if not known:
        return f"Sizes are in pixels of the photos: their scale is not known. {error}."
    low, high = min(known), max(known)
    span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    text = f"1 pixel = {span} mm. {error}: to {high / 2:.2g} mm."
    if settings["distance"] is not None:
        text += (
            f" That is for a distance of {settings['distance']:g} m and the focal lengths that the "
            f"photos name; {len(rows) - len(known)} name none, and their sizes are in pixels."
        )
    return text


def _annotate(record: Mapping[str, Any], image: int) -> Iterator[dict[str, Any]]:
    """The cracks of a photo as polygons of COCO; the file numbers them."""
    for crack in record.get("cracks", ()):
        left, top, right, bottom = crack["box"]
        yield {
            **{"image_id": image, "category_id": 1, "iscrowd": 0},
            "bbox": [left, top, round(right - left, 1), round(bottom - top, 1)],
            "area": round(crack["length_px"] * (crack["mean_width_px"] or 1), 1),
            "segmentation": to_polygons(crack),
        }


def _totals(rows: Sequence[Mapping[str, Any]]) -> str:
    """All cracks together; in millimetres when the scale of all photos is known."""
    traced = [row for row in rows if row["cracks"]]
    if not traced:
        return "No crack was traced."
    unit = "px" if any(row["length_mm"] is None for row in traced) else "mm"
    length = sum(row[f"length_{unit}"] for row in traced)
    long = f"{length / 1000:,.2f} m" if unit == "mm" else f"{length:,.0f} pixels"
    text = f"{sum(row['cracks'] for row in traced):,} cracks were traced, {long} in all"
    wide = [row for row in traced if row[f"max_width_{unit}"] is not None]
    if not wide:
        return f"{text}."
    widest = max(wide, key=lambda row: row[f"max_width_{unit}"])
    name = "mm" if unit == "mm" else "pixels"
    return f"{text}; the widest, {widest[f'max_width_{unit}']:.1f} {name}, is in {widest['file']}."
