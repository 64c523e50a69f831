"""Many photos inspected, one by one, into a folder that can be handed on."""

import base64
import dataclasses
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from crackclf import __version__
from crackclf.errors import UserError, show
from crackclf.evaluation.calibration import FALSE_ALARMS, choose_region_threshold
from crackclf.files import is_draft, remove_drafts, user_path, write_whole
from crackclf.images.check import digest_of
from crackclf.images.decode import decoding, naming, read_content
from crackclf.images.listing import find_images
from crackclf.inspection.overlay import crop_crack, heat_layer, shrink
from crackclf.inspection.photo import inspect_photo
from crackclf.inspection.records import Scale, add_sizes, to_row
from crackclf.inspection.regions import choose_reach
from crackclf.inspection.report import write_report
from crackclf.prediction.classifier import Classifier, as_classifier

_SETTINGS, _PARTS, _OVERLAYS = "settings.json", ".parts", "overlays"
_FORMAT = 2  # Of the parts: 2 has the cracks.
_LONGEST = 80  # Bytes of a photo's name in that of its overlay.
_CROPS, _CROP = 12, 300  # Cracks of a photo that are shown close up, and pixels of that.
_PREVIEW = 1000  # Pixels of the longer side of a photo in the report.


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

    The folder gets `report.html`, which needs nothing but itself, `photos.csv`, `cracks.csv`,
    `inspection.json`, `cracks.coco.json` for annotation tools, `positions.geojson` when photos say
    where they were taken, and in `overlays/` a picture of each. A photo is done once its part is
    written under `.parts/`: called again with the same settings, it goes on with those that are
    missing. Called with other photos, it adds them to those that are there. One photo at a time is
    in memory.

    Args:
        paths: photos, and folders that are searched through and through.
        classifier: from `load_model`, or the folder of a saved model.
        out: folder to make, or one that an earlier call has made.
        false_alarms: share of sound photos that may be called cracked; chooses the threshold by
            the card's `sound_peaks`.
        mm_per_pixel: millimetres on the surface for a pixel of the photos, when known.
        region_threshold: probability above which the peak of a region must be, in place of the one
            that `false_alarms` asks for; needs no `sound_peaks`.
        distance: metres from the camera to the surface, in place of `mm_per_pixel`: with the focal
            length in its EXIF it gives the scale of each photo that was not cropped.
        width_classes: bounds of classes of crack widths in millimetres, such as (0.2, 0.4, 1).

    Returns:
        For each photo of this call in order its row of `photos.csv` and, as `overlay`, the path of
        its picture from the folder; None where nothing is known. A photo that cannot be read has
        its `error` set and does not stop the others.

    Raises:
        UserError: when a path names no image, the folder holds something else, or the settings
            cannot be used.

    Example:

    ```python
    for photo in inspect_photos(["site/"], out="inspection"):
        print(photo["file"], photo["verdict"])
    ```
    """
    scale = Scale(mm_per_pixel, distance, tuple(width_classes))
    card = (classifier := as_classifier(classifier)).card
    files = [path for path in find_images(paths) if not _is_overlay(path)]
    is_chosen = region_threshold is None
    if region_threshold is None:
        region_threshold = choose_region_threshold(card.sound_peaks, false_alarms)
    elif not 0 < region_threshold < 1:
        raise UserError(f"region_threshold must be between 0 and 1. Received: {region_threshold}.")
    settings = {
        "written_by": f"crackclf {__version__}",
        "format": _FORMAT,
        "model": card.fingerprint,
        "false_alarms": false_alarms if is_chosen else None,
        "sound_photos": len(card.sound_peaks) if is_chosen else 0,
        "region_threshold": region_threshold,
        "threshold": choose_reach(region_threshold),
        "temperature": card.temperature,
        "patch_size": card.patch_size,
        "positive_class": card.positive_class,
    }
    out = user_path(out)
    _check_folder(out, settings)
    from tqdm import tqdm

    rows: list[dict[str, Any]] = []
    parts: list[Path | None] = []
    for path in tqdm(files, "Inspecting", unit=" photos", disable=len(files) < 2):
        file = {"file": show(path)}
        try:
            part, found = _inspect_once(path, classifier, region_threshold, out)
            record = add_sizes(found | file, scale)
        except UserError as error:
            part, record = None, file | {"error": str(error)}
        parts.append(part)
        rows.append(to_row(record) | {"overlay": record.get("overlay")})

    before = _read_earlier(out, {row["file"] for row in rows})
    told = [to_row(add_sizes(_read(part, file), scale)) for file, part in before] + rows

    def read_records() -> Iterator[dict[str, Any]]:
        for row, part in zip(told, [part for _, part in before] + parts, strict=True):
            if part is None:
                yield {"file": row["file"], "error": row["error"]}
            else:
                yield add_sizes(_read(part, row["file"]), scale)

    write_report(out, settings | dataclasses.asdict(scale), told, read_records)
    return rows


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    found = _read_settings(out)
    # A draft may be that of another process which begins at the same time.
    if found is None and out.exists():
        is_new = out.is_dir() and all(is_draft(x) for x in out.iterdir())
        # What has come since was written after the settings.
        if not is_new and (found := _read_settings(out)) is None:
            raise UserError(
                f"{out}: is there already and was not written by crackclf. Name another folder "
                "with --out."
            )
    if found is not None and found != settings:
        other = [key for key, value in settings.items() if found.get(key) != value]
        raise UserError(
            f"{out}: holds an inspection with other settings ({', '.join(other)}). Name another "
            "folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    # First, as it says whose folder this is.
    write_whole(out / _SETTINGS, json.dumps(settings, indent=2) + "\n")
    for name in (_PARTS, _OVERLAYS):
        (out / name).mkdir(exist_ok=True)
        remove_drafts(out / name)


def _read_settings(out: Path) -> dict[str, Any] | None:
    """The settings of the inspection in a folder; None without, empty when they are damaged."""
    try:
        found = json.loads((out / _SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _inspect_once(
    path: Path, classifier: Classifier, region_threshold: float, out: Path
) -> tuple[Path, dict[str, Any]]:
    """Inspects a photo unless an earlier call has; the part and what is in it."""
    with naming(path):
        content = read_content(path)
    digest = digest_of(content)
    part = out / _PARTS / f"{digest}.json"
    done = _read_part(part, out)
    if done is not None:
        return part, done
    with naming(path), decoding(content, path) as (image, info):
        found = dataclasses.replace(inspect_photo(image, classifier, region_threshold), info=info)
    overlay = f"{_OVERLAYS}/{_shorten(show(path.stem))}-{digest[:8]}.jpg"
    write_whole(out / overlay, _encode(found.draw_overlay(image), "JPEG", quality=85))
    done = found.to_dict() | {
        "digest": digest,
        "overlay": overlay,
        "error": "",
        "preview": _embed(_encode(shrink(image, _PREVIEW), "JPEG", quality=75), "jpeg"),
        "heat": _embed(_encode(heat_layer(found.probability), "PNG"), "png"),
        "crops": [
            _embed(_encode(crop_crack(image, crack, _CROP), "JPEG", quality=80), "jpeg")
            for crack in found.cracks[:_CROPS]
        ],
    }
    write_whole(part, json.dumps(done))
    return part, done


def _read_part(part: Path, out: Path) -> dict[str, Any] | None:
    """What an earlier call has found; None when it, or the picture that goes with it, is gone."""
    try:
        found = json.loads(part.read_text(encoding="utf-8"))
        return found if (out / found["overlay"]).is_file() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read(part: Path, file: str) -> dict[str, Any]:
    return json.loads(part.read_text(encoding="utf-8")) | {"file": file}


def _read_earlier(out: Path, now: set[str]) -> list[tuple[str, Path]]:
    """Photos that an earlier call has told of and this one does not, and their parts."""
    try:
        photos = json.loads((out / "inspection.json").read_text(encoding="utf-8"))["photos"]
        found = [
            (x["file"], out / _PARTS / f"{x['digest']}.json") for x in photos if not x["error"]
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [(file, part) for file, part in found if file not in now and _read_part(part, out)]


def _is_overlay(path: Path) -> bool:
    return path.parent.name == _OVERLAYS and (path.parent.parent / _PARTS).is_dir()


def _shorten(name: str) -> str:
    # A disk takes 255 bytes, which are fewer letters of most scripts, and no separator.
    return name.replace("\\", "_").encode()[:_LONGEST].decode(errors="ignore")


def _encode(image: Image.Image, format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def _embed(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
