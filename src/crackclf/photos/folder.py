"""Many photos inspected, one by one, into a folder that can be handed on."""

import base64
import dataclasses
import io
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from crackclf import __version__
from crackclf.calibration import FALSE_ALARMS, choose_region_threshold
from crackclf.errors import UserError, counted, notice, show
from crackclf.files import format_table, is_draft, remove_drafts, user_path, write_whole, writing
from crackclf.folders import digest_of
from crackclf.images import naming, read_content
from crackclf.listing import Picture, find_images
from crackclf.photos import records
from crackclf.photos.camera import NoPhotoError
from crackclf.photos.maps import REACH
from crackclf.photos.overlay import crop_crack, heat_layer, shrink
from crackclf.photos.photo import Inspection, inspect_picture
from crackclf.prediction import Classifier, as_classifier
from crackclf.saving import Card

_PARTS, _OVERLAYS = ".parts", "overlays"
_LONGEST = 80  # Bytes of a photo's name in that of its overlay.
_CROPS, _CROP = 12, 300  # Cracks of a photo that are shown close up, and pixels of each.
_PREVIEW = 1000  # Pixels of the longer side of a photo in the report.
_MIXED = (
    "the photos differ in size, so --mm-per-pixel may be right for some only: give --scale-file"
)
_FOUND, _CLOSE = 60, 5  # Pixels up to which any crack is found, and mm below which that is little.
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
    scale_file: str | os.PathLike | None = None,
    reviewed: str | os.PathLike | None = None,
    heading: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Inspects photos and writes pictures, tables and a report.

    The folder gets `report.html`, which needs no other file, `photos.csv`, `cracks.csv`,
    `inspection.json`, `cracks.coco.json` for annotation tools, and in `overlays/` a picture of each
    photo. Called again, it inspects only new photos, and adds them. Each photo keeps its scale,
    threshold and model. Byte-identical photos count once.

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
            length in its EXIF it gives the scale of each photo that was neither cropped nor
            stitched nor taken with digital zoom.
        width_classes: bounds of classes of crack widths in millimetres, such as (0.2, 0.4, 1).
        scale_file: a CSV file with the columns `file` and `mm_per_pixel`, a row for each photo, by
            its path or its name. It goes before `mm_per_pixel` and `distance`.
        reviewed: the table that a reader of `report.html` has saved. Cracks marked wrong no longer
            count.
        heading: what stands above the report: "title", "client", "inspector". It is kept.

    Returns:
        For each photo of this call in order its row of `photos.csv` and, as `overlay`, the path of
        its picture from the folder; None where nothing is known. A photo that cannot be read has
        its `error` set and does not stop the others. One that shows no surface has no verdict.

    Raises:
        UserError: when a path names no image, the folder holds something else, or the settings
            cannot be used.

    Examples:
        >>> for photo in inspect_photos(["site/"], out="inspection"):
        ...     print(photo["file"], photo["verdict"])
    """
    from tqdm import tqdm

    by_file = {} if scale_file is None else records.read_scales(scale_file)
    scale = records.Scale(mm_per_pixel, distance, tuple(width_classes), by_file)
    classifier = as_classifier(classifier)
    files = {
        show(path): path
        for path in find_images(paths)  # Without the pictures of an inspection.
        if not (path.parent.name == _OVERLAYS and (path.parent.parent / _PARTS).is_dir())
    }
    settings = describe_settings(classifier.card, false_alarms, region_threshold)
    chosen = digest_of(f"{settings['model']} {settings['region_threshold']}".encode())[:8]
    out = user_path(out)
    _open_folder(out)
    photos, told = _read_earlier(out)
    name_of = {x["part"].split("-")[0]: name for name, x in photos.items() if "part" in x}
    asked: dict[str, str] = {}  # The name of the photo of each file; that of the first of copies.
    for file, path in tqdm(files.items(), "Inspecting", unit=" photos", disable=len(files) < 2):
        asked[file] = file
        try:
            with naming(path):
                content = read_content(path)
            digest = digest_of(content)
            name = asked[file] = name_of.setdefault(digest, file)
            if name != file and not Path(name).is_file():  # It was moved.
                photos[file] = photos.pop(name)
                name = asked[file] = name_of[digest] = file
            part = f"{digest}-{chosen}.json"
            if not (out / _PARTS / part).is_file():
                picture, threshold = Picture(str(path), content), settings["region_threshold"]
                found, image = inspect_picture(picture, classifier, threshold)
                record = add_photo(found, image, classifier, part, out)
                write_whole(out / _PARTS / part, json.dumps(record))
            photos[name] = {"mm_per_pixel": None, **photos.get(name, {}), "part": part}
        except NoPhotoError as error:
            reason = str(error).removeprefix(f"{file}: ")
            photos[file] = {"error": "", "quality": reason, "verdict": None}
        except UserError as error:
            photos[file] = {"error": str(error)}
    for name, marks in ({} if reviewed is None else records.read_reviews(reviewed)).items():
        if name not in photos:
            raise UserError(f"{show(name)}: {reviewed} names it, but {show(out)} does not hold it.")
        photos[name]["reviews"] = photos[name].get("reviews", {}) | marks
    if copies := [(file, name) for file, name in asked.items() if file != name]:
        some = f"{counted(len(copies), 'photo')}, e.g. {copies[0][0]}"
        notice(f"{some}, the same as {copies[0][1]}: photos that are there twice count once")
    wanted, doubts = set(asked.values()), defaultdict(list)
    sized = (
        _size(out, name, photo, scale if name in wanted else None, doubts)
        for name, photo in photos.items()
    )
    told |= {name: text for name, text in (heading or {}).items() if text}
    about = {"heading": told, "date": date.today().isoformat()}
    chosen = {**settings, **dataclasses.asdict(scale), "by_file": bool(by_file), **about}
    rows = [row for row in write_report(out, chosen, sized) if row["file"] in wanted]
    sizes = {tuple(sorted((row["width"], row["height"]))) for row in rows if row["width"]}
    if mm_per_pixel is not None and len(sizes) > 1:
        doubts[_MIXED] = [*wanted]
    for doubt, names in doubts.items():
        notice(f"{counted(len(names), 'photo')}, e.g. {min(names)}: {doubt}")
    return rows


def _read_earlier(out: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What is kept of the folder's last report: of its photos, by file; and its heading."""
    last = out / "inspection.json"
    kept = ("part", "mm_per_pixel", "reviews", "error", "quality", "verdict")
    found = json.loads(last.read_bytes()) if last.is_file() else {"photos": [], "settings": {}}
    photos = {x["file"]: {name: x[name] for name in kept if name in x} for x in found["photos"]}
    there = {path.name for path in (out / _PARTS).iterdir()}
    photos = {k: x for k, x in photos.items() if "part" not in x or x["part"] in there}
    return photos, found["settings"].get("heading", {})


def _size(
    out: Path,
    name: str,
    photo: Mapping[str, Any],
    scale: records.Scale | None,
    doubts: Mapping[str, list[str]],
) -> dict[str, Any]:
    """The record of a photo with sizes: by the scale or, where that is unknown, as before."""
    if "part" not in photo:
        return {"file": name, **photo}
    record = json.loads((out / _PARTS / photo["part"]).read_bytes()) | {"file": name}
    mm_per_pixel, doubt = (None, "") if scale is None else scale.of(record)
    if mm_per_pixel is None:
        mm_per_pixel = photo["mm_per_pixel"]
    if mm_per_pixel is None and doubt:
        doubts[f"{doubt}. Its sizes are in pixels: give --scale-file"].append(name)
    elif scale and mm_per_pixel and (widest := _FOUND * mm_per_pixel) < _CLOSE:
        doubts[f"a crack wider than {widest:.3g} mm may be missed; step back for it"].append(name)
    reviews = photo.get("reviews", {})
    for number, crack in enumerate(record["cracks"], 1):
        crack |= reviews.get(str(number), {})
    sized = records.add_sizes(record, mm_per_pixel, scale.width_classes if scale else ())
    return sized | {"reviews": reviews}


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
        "model": card.fingerprint,
        "false_alarms": false_alarms if is_chosen else None,
        "sound_photos": len(card.sound_peaks) if is_chosen else 0,
        "region_threshold": region_threshold,
        "threshold": min(REACH, region_threshold),
        "temperature": card.temperature,
        "patch_size": card.patch_size,
        "positive_class": card.positive_class,
    }


def _open_folder(out: Path) -> None:
    """Makes the folder, or checks that an earlier call made it."""
    # Listed before it is asked for parts: another process may begin at the same time.
    is_new = not out.exists() or (out.is_dir() and all(map(is_draft, out.iterdir())))
    if not is_new and not (out / _PARTS).is_dir():
        reason = "exists already and was not written by crackclf"
        raise UserError(f"{show(out)}: {reason}. Name another folder with --out.")
    for name in ("", _PARTS, _OVERLAYS):  # The second marks it as one of crackclf.
        (out / name).mkdir(parents=True, exist_ok=True)
        remove_drafts(out / name)


def add_photo(
    found: Inspection, image: Image.Image, classifier: Classifier, part: str, out: Path
) -> dict[str, Any]:
    """Writes the overlay of a photo; returns its record, with pictures for the page as URLs."""
    # A file's name may have 255 bytes, which are fewer letters of most scripts.
    stem = show(Path(found.file).stem).replace("\\", "_").encode()[:_LONGEST]
    overlay = f"{_OVERLAYS}/{stem.decode(errors='ignore')}-{part[:8]}.jpg"
    with writing(out / overlay) as draft:
        found.draw_overlay(image).save(draft, quality=85)
    crops = [crop_crack(image, crack, _CROP) for crack in found.cracks[:_CROPS]]
    return found.to_dict() | {
        "part": part,
        "model": classifier.card.fingerprint,
        "region_threshold": found.region_threshold,
        "overlay": overlay,
        "error": "",
        "preview": _to_url(shrink(image, _PREVIEW), "jpeg", quality=75),
        "heat": _to_url(heat_layer(found.probability), "png"),
        "crops": [(_to_url(crop, "jpeg", quality=80), *place) for crop, place in crops],
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
                if record.get("part"):
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
        for name, text in texts.items():
            files.enter_context(writing(out / name)).write_bytes(text.encode())
    return rows


def _embed(value: Mapping[str, Any]) -> str:
    # Nothing in the data may end the element that holds it.
    text = json.dumps(value).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'
