"""The inspection of many photos as page, table, JSON and GeoJSON."""

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crackclf.files import format_table, write_whole, writing
from crackclf.inspection.records import COLUMNS, to_feature

_PICTURES = ("preview", "heat")


def write_report(
    out: Path,
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    read_records: Callable[[], Iterator[dict[str, Any]]],
) -> None:
    """Writes `report.html`, `photos.csv`, `inspection.json` and `positions.geojson`.

    Args:
        out: the folder.
        settings: of the inspection, `mm_per_pixel` included.
        rows: a row of the table for each photo.
        read_records: gives the record of each photo, with its pictures; one at a time, as those
            of all photos may not fit into memory.
    """
    page = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    page = page.replace("<!--notes-->", _notes(settings, rows))
    before, _, after = page.partition("<!--photos-->")
    head = json.dumps({"written_by": settings["written_by"], "settings": dict(settings)})
    with writing(out / "report.html") as shown, writing(out / "inspection.json") as told:
        shown.write(before.encode())
        told.write(f'{head[:-1]}, "photos": ['.encode())
        for number, record in enumerate(read_records()):
            pictures = {name: record.pop(name) for name in _PICTURES if name in record}
            told.write(f"{',' * (number > 0)}\n{json.dumps(record)}".encode())
            shown.write(f"{_data(record)}{_data(pictures)}\n".encode())
        told.write(b"\n]}\n")
        shown.write(after.encode())
    write_whole(out / "photos.csv", format_table(COLUMNS, rows))
    features, place = [x for x in map(to_feature, rows) if x], out / "positions.geojson"
    if features:
        positions = {"type": "FeatureCollection", "features": features}
        write_whole(place, json.dumps(positions, indent=1) + "\n")
    else:
        place.unlink(missing_ok=True)  # Of an earlier run, with other photos.


def _data(value: Mapping[str, Any]) -> str:
    # Nothing in the data may end the element that holds it.
    text = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'


def _notes(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    read = [row for row in rows if not row["error"]]
    cracked = sum(row["verdict"] == settings["positive_class"] for row in read)
    scale = settings["mm_per_pixel"]
    lines = [
        f"{len(rows):,} photos: {cracked:,} with cracks, {len(read) - cracked:,} without, "
        f"{len(rows) - len(read):,} that could not be read.",
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
