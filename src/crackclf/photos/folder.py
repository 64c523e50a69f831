"""Many photos inspected, one by one, into a folder that can be handed on."""

import base64
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from crackclf import __version__
from crackclf.calibration import FALSE_ALARMS, choose_region_threshold
from crackclf.errors import UserError, show
from crackclf.files import format_table, is_draft, remove_drafts, user_path, write_whole, writing
from crackclf.folders import digest_of
from crackclf.images import naming, read_content
from crackclf.listing import Picture, find_images
from crackclf.photos import records
from crackclf.photos.maps import REACH
from crackclf.photos.overlay import crop_crack, heat_layer, shrink
from crackclf.photos.photo import Inspection, inspect_picture
from crackclf.prediction import Classifier, as_classifier
from crackclf.saving import Card

_SETTINGS, _PARTS, _OVERLAYS = "settings.json", ".parts", "overlays"
_FORMAT = 2  # Of the parts: 2 has the cracks.
_LONGEST = 80  # Bytes of a photo's name in that of its overlay.
_CROPS, _CROP = 12, 300  # Cracks of a photo that are shown close up, and pixels of each.
_PREVIEW = 1000  # Pixels of the longer side of a photo in the report.
_PICTURES = ("preview", "heat", "crops")  # Of a record; the report alone has them.


def inspect_photos(
    paths: Sequence[str | os.PathLike],
    classifier: Classifier | str | os.PathLike = "shipped",
    out: str | os.PathLike = "inspection",
    false_alarms: float = FALSE_ALARMS,
    mm_per_pixel: float | None = None,
    region_threshold: float | None = None,
    distance: float | None = None,
    width_classes: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Inspects photos and writes pictures, tables and a report.

    The folder gets `report.html`, which needs no other file, `photos.csv`, `cracks.csv`,
    `inspection.json`, `cracks.coco.json` for annotation tools, `positions.geojson` when EXIF says
    where photos were taken, and in `overlays/` a picture of each photo. Called again with the same
    settings, it inspects only new photos, and adds them.

    Args:
        paths: photos, and folders that are searched through all their sub-folders.
        classifier: from `load_model`, or the folder of a saved model.
        out: folder to make, or one that an earlier call has made.
        false_alarms: share of sound photos that may be called cracked, between 0 and 1. It
            chooses the threshold by the card's `sound_peaks`.
        mm_per_pixel: millimetres on the surface per pixel of the photos, when known.
        region_threshold: probability above which the peak of a region must be, between 0 and 1,
            instead of the one for `false_alarms`; needs no `sound_peaks`.
        distance: metres from the camera to the surface, instead of `mm_per_pixel`. With the focal
            length in its EXIF it gives the scale of each photo that was not cropped.
        width_classes: bounds of classes of crack widths in millimetres, such as (0.2, 0.4, 1).

    Returns:
        For each photo of this call in order its row of `photos.csv` and, as `overlay`, the path of
        its picture from the folder; None where nothing is known. A photo that cannot be read has
        its `error` set and does not stop the others.

    Raises:
        UserError: when a path names no image, the folder holds something else, or the settings
            cannot be used.

    Examples:
        >>> for photo in inspect_photos(["site/"], out="inspection"):
        ...     print(photo["file"], photo["verdict"])
    """
    from tqdm import tqdm

    scale = records.Scale(mm_per_pixel, distance, tuple(width_classes))
    classifier = as_classifier(classifier)
    files = {
        show(path): path
        for path in find_images(paths)  # Without the pictures of an inspection.
        if not (path.parent.name == _OVERLAYS and (path.parent.parent / _PARTS).is_dir())
    }
    settings = describe_settings(classifier.card, false_alarms, region_threshold)
    out = user_path(out)
    _open_folder(out, settings)
    parts: dict[str, Path | str] = {}  # By file; text is the error of one that cannot be read.
    for file, path in tqdm(files.items(), "Inspecting", unit=" photos", disable=len(files) < 2):
        try:
            with naming(path):
                content = read_content(path)
            digest = digest_of(content)
            part = out / _PARTS / f"{digest}.json"
            if not part.is_file():
                picture, threshold = Picture(str(path), content), settings["region_threshold"]
                record = add_photo(*inspect_picture(picture, classifier, threshold), digest, out)
                write_whole(part, json.dumps(record))
            parts[file] = part
        except UserError as error:
            parts[file] = str(error)
    # Photos that only the folder's last report has come before those of this call.
    last = out / "inspection.json"
    earlier = json.loads(last.read_bytes())["photos"] if last.is_file() else []
    found = {x["file"]: out / _PARTS / f"{x.get('digest')}.json" for x in earlier}
    parts = {file: x for file, x in found.items() if file not in files and x.is_file()} | parts
    photos = (
        {"file": file, "error": part}
        if isinstance(part, str)
        else records.add_sizes(json.loads(part.read_bytes()) | {"file": file}, scale)
        for file, part in parts.items()
    )
    rows = write_report(out, settings | dataclasses.asdict(scale), photos)
    return [row for row in rows if row["file"] in files]


def describe_settings(
    card: Card, false_alarms: float = FALSE_ALARMS, region_threshold: float | None = None
) -> dict[str, Any]:
    """The settings of an inspection. A threshold of None becomes the one for `false_alarms`."""
    is_chosen = region_threshold is None
    if region_threshold is None:
        region_threshold = choose_region_threshold(card.sound_peaks, false_alarms)
    elif not 0 < region_threshold < 1:
        raise UserError(f"region_threshold must be between 0 and 1. Received: {region_threshold}.")
    return {
        "written_by": f"crackclf {__version__}",
        "format": _FORMAT,
        "model": card.fingerprint,
        "false_alarms": false_alarms if is_chosen else None,
        "sound_photos": len(card.sound_peaks) if is_chosen else 0,
        "region_threshold": region_threshold,
        "threshold": min(REACH, region_threshold),
        "temperature": card.temperature,
        "patch_size": card.patch_size,
        "positive_class": card.positive_class,
    }


def _open_folder(out: Path, settings: dict[str, Any]) -> None:
    """Makes the folder, or checks that an earlier call with the same settings made it."""
    # Listed before the settings are read: another process may begin at the same time.
    is_new = not out.exists() or (out.is_dir() and all(map(is_draft, out.iterdir())))
    try:
        found = dict(json.loads((out / _SETTINGS).read_bytes()))
    except (OSError, ValueError, TypeError):
        found = {}
    if found != settings and (found or not is_new):
        other = [key for key, value in settings.items() if key in found and found[key] != value]
        reason = "exists already and was not written by crackclf"
        if other:
            reason = f"holds an inspection with other settings ({', '.join(other)})"
        raise UserError(f"{show(out)}: {reason}. Name another folder with --out.")
    # The settings come first: they mark the folder as one of crackclf.
    write_whole(out / _SETTINGS, json.dumps(settings, indent=2) + "\n")
    for name in ("", _PARTS, _OVERLAYS):
        (out / name).mkdir(exist_ok=True)
        remove_drafts(out / name)


def add_photo(found: Inspection, image: Image.Image, digest: str, out: Path) -> dict[str, Any]:
    """Writes the overlay of a photo; returns its record, with pictures for the page as URLs."""
    # A file's name may have 255 bytes, which are fewer letters of most scripts.
    stem = show(Path(found.file).stem).replace("\\", "_").encode()[:_LONGEST]
    overlay = f"{_OVERLAYS}/{stem.decode(errors='ignore')}-{digest[:8]}.jpg"
    with writing(out / overlay) as draft:
        found.draw_overlay(image).save(draft, quality=85)
    crops = [crop_crack(image, crack, _CROP) for crack in found.cracks[:_CROPS]]
    return found.to_dict() | {
        "digest": digest,
        "overlay": overlay,
        "error": "",
        "preview": _to_url(shrink(image, _PREVIEW), "jpeg", quality=75),
        "heat": _to_url(heat_layer(found.probability), "png"),
        "crops": [_to_url(crop, "jpeg", quality=80) for crop in crops],
    }


def _to_url(image: Image.Image, kind: str, **options: int) -> str:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def write_report(
    out: Path, settings: Mapping[str, Any], photos: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Writes the report of photos, as `add_sizes` returns them, and returns a row for each."""
    page = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    before, after = page.split("<!--photos-->")
    rows, cracks, images, annotations, results = [], [], [], [], []
    with ExitStack() as files:
        # They take their names when all are written, so that they agree.
        shown = files.enter_context(writing(out / "report.html")).open("w", encoding="utf-8")
        with shown:
            shown.write(f"{before}{_embed(settings)}\n")
            # One at a time: with their pictures, all photos may not fit into memory.
            for number, record in enumerate(map(dict, photos), 1):
                pictures = {name: record.pop(name) for name in _PICTURES if name in record}
                pictures["original"] = ""  # Or the path from the report to the photo.
                if Path(record["file"]).is_file():
                    with suppress(ValueError):  # It is on another drive.
                        path = Path(os.path.relpath(record["file"], out))
                        pictures["original"] = quote(path.as_posix())
                shown.write(f"{_embed(record)}{_embed(pictures)}\n")
                results.append(json.dumps(record))
                rows.append(records.to_row(record) | {"overlay": record.get("overlay")})
                cracks += records.to_crack_rows(record)
                annotations += records.to_annotations(record, number, len(annotations) + 1)
                if not record["error"]:
                    size = {name: record[name] for name in ("width", "height")}
                    images.append({"id": number, "file_name": record["file"], **size})
            shown.write(after)
        head = json.dumps({"written_by": settings["written_by"], "settings": dict(settings)})
        listed = ",\n".join(results)
        categories = [{"id": 1, "name": settings["positive_class"]}]
        coco = {"annotations": annotations, "images": images, "categories": categories}
        texts = {
            "inspection.json": f'{head[:-1]}, "photos": [\n{listed}\n]}}\n',
            "cracks.coco.json": json.dumps(coco) + "\n",
            "photos.csv": format_table(records.COLUMNS, rows),
            "cracks.csv": format_table(records.CRACK_COLUMNS, cracks),
        }
        features = [records.to_feature(row) for row in rows if row["latitude"] is not None]
        positions = {"type": "FeatureCollection", "features": features}
        if features:
            texts["positions.geojson"] = json.dumps(positions, indent=1) + "\n"
        for name, text in texts.items():
            files.enter_context(writing(out / name)).write_bytes(text.encode())
    if not features:  # Of an earlier call, with other photos.
        (out / "positions.geojson").unlink(missing_ok=True)
    return rows


def _embed(value: Mapping[str, Any]) -> str:
    # Nothing in the data may end the element that holds it.
    text = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'
