"""Many photos inspected, one by one, into a folder that can be handed on."""

import base64
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from crackclf import __version__
from crackclf.data.files import write_whole
from crackclf.data.images import read_photo
from crackclf.errors import UserError
from crackclf.evaluation.calibration import choose_region_threshold
from crackclf.inference.inspection import FALSE_ALARMS, Inspection, inspect_photo
from crackclf.inference.overlay import draw_overlay, heat_layer, shrink
from crackclf.inference.predict import find_images
from crackclf.inference.report import check_scale, write_report
from crackclf.models.saving import Classifier

_SETTINGS, _PARTS, _OVERLAYS = "settings.json", ".parts", "overlays"
_PREVIEW = 1000  # Pixels of the longer side of a photo in the report.


def inspect_photos(
    paths: Sequence[str | os.PathLike],
    classifier: Classifier,
    out: str | os.PathLike,
    false_alarms: float = FALSE_ALARMS,
    mm_per_pixel: float | None = None,
) -> list[dict[str, Any]]:
    """Inspects photos and writes pictures, tables and a report.

    The folder gets `report.html`, which needs nothing but itself, `photos.csv`,
    `inspection.json`, `positions.geojson` when photos say where they were taken, and in
    `overlays/` a picture of each. A photo is done once its part is written under `.parts/`: called
    again with the same settings, it goes on with those that are missing.

    Args:
        paths: photos, and folders that are searched through and through.
        classifier: from `load_model`.
        out: folder to make, or one that an earlier call has made.
        false_alarms: share of sound photos that may be called cracked; chooses the threshold by
            the card's `sound_peaks`.
        mm_per_pixel: millimetres on the surface for a pixel of the photos, when known.

    Returns:
        What `inspection.json` says of each photo, in order. One that cannot be read has its
        `error` set and does not stop the others.

    Raises:
        UserError: when a path names no image, the folder holds something else, or the settings
            cannot be used.

    Example:

    ```python
    photos = inspect_photos(["site/"], load_model(), "inspection")
    ```
    """
    check_scale(mm_per_pixel)
    card, out = classifier.card, Path(out)
    files = [path for path in find_images(paths) if not _is_overlay(path)]
    settings = {
        "written_by": f"crackclf {__version__}",
        "model": card.sha256,
        "false_alarms": false_alarms,
        "sound_photos": len(card.sound_peaks),
        "region_threshold": choose_region_threshold(card.sound_peaks, false_alarms),
        "threshold": card.threshold,
        "temperature": card.temperature,
        "patch_size": card.patch_size,
        "positive_class": card.positive_class,
    }
    _check_folder(out, settings)
    parts = []
    for path in tqdm(files, "Inspecting", unit=" photos", disable=len(files) < 2):
        part = _inspect_once(path, classifier, settings, out)
        parts.append({"file": _printable(str(path))} | part)
    photos = [
        {key: value for key, value in part.items() if key not in ("preview", "heat")}
        for part in parts
    ]
    write_report(out, settings | {"mm_per_pixel": mm_per_pixel}, parts, photos)
    return photos


def _check_folder(out: Path, settings: dict[str, Any]) -> None:
    try:
        found = json.loads((out / _SETTINGS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(
                f"{out}: is there already and was not written by crackclf. Name another folder "
                "with --out."
            ) from None
        found = None
    except ValueError:
        found = {}
    if found is not None and found != settings:
        found = found if isinstance(found, dict) else {}
        other = [key for key, value in settings.items() if found.get(key) != value]
        raise UserError(
            f"{out}: holds an inspection with other settings ({', '.join(other)}). Name another "
            "folder with --out."
        )
    for name in (_PARTS, _OVERLAYS):
        (out / name).mkdir(parents=True, exist_ok=True)
    write_whole(out / _SETTINGS, json.dumps(settings, indent=2) + "\n")


def _inspect_once(
    path: Path, classifier: Classifier, settings: dict[str, Any], out: Path
) -> dict[str, Any]:
    try:
        digest = _digest(path)
        part = out / _PARTS / f"{digest}.json"
        done = _read_part(part, out)
        if done is not None:
            return done
        image, info = read_photo(path)
    except UserError as error:
        return {"error": _printable(str(error))}
    found = inspect_photo(image, classifier, settings["region_threshold"])
    found = dataclasses.replace(found, file=str(path), info=info)
    overlay = f"{_OVERLAYS}/{_printable(path.stem)[:80]}-{digest[:8]}.jpg"
    write_whole(out / overlay, _jpeg(draw_overlay(found, image), 85))
    record = describe(found) | {"digest": digest, "overlay": overlay, "error": ""}
    pictures = {
        "preview": _embed(_jpeg(shrink(image, _PREVIEW), 75), "jpeg"),
        "heat": _embed(_png(heat_layer(found.probability)), "png"),
    }
    content = json.dumps(record | pictures)
    write_whole(part, content)
    return json.loads(content)


def _read_part(part: Path, out: Path) -> dict[str, Any] | None:
    """What an earlier call has found; None when it, or the picture that goes with it, is gone."""
    try:
        found = json.loads(part.read_text(encoding="utf-8"))
        return found if (out / found["overlay"]).is_file() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_overlay(path: Path) -> bool:
    return path.parent.name == _OVERLAYS and (path.parent.parent / _PARTS).is_dir()


def _printable(text: str) -> str:
    # A name that is not UTF-8 can neither be written nor printed.
    return text.encode("utf-8", "replace").decode()


def _digest(path: Path) -> str:
    if not path.is_file():
        return "none"  # A pipe, say, which read_photo refuses.
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from None


def describe(found: Inspection) -> dict[str, Any]:
    """What `inspection.json` says of a photo, but for its file and areas."""
    return {
        "verdict": found.verdict,
        "probability": round(float(found.probability.max()), 6),
        "width": found.width,
        "height": found.height,
        **dataclasses.asdict(found.info),
        "regions": [
            {
                "probability": round(region.probability, 6),
                "area": region.area,
                "box": region.box,
                "polygons": region.polygons,
            }
            for region in found.regions
        ],
    }


def _jpeg(image: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _embed(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
