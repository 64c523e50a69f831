"""What is answered about a picture that somebody has sent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from crackclf.errors import UserError, show
from crackclf.images.decode import read_photo
from crackclf.inspection.folder import inspect_photos
from crackclf.inspection.overlay import lay_heat
from crackclf.inspection.records import sum_up
from crackclf.inspection.report import link_to
from crackclf.prediction.classifier import Classifier
from crackclf.prediction.explain import explain
from crackclf.prediction.predict import predict
from crackclf.saved.card import Card

_PHOTOS = "photos"  # The folder of their inspection.
_SHOWN, _GAP = 600, 16  # Pixels of the longer side of a patch, and between it and its evidence.


@dataclass(frozen=True)
class Answer:
    """What is said about one picture.

    Attributes:
        name: of its file.
        problem: why there is no answer; then all that follows is empty.
        row: what is known of it, by the columns of `photos.csv`; of a patch its verdict and
            probability.
        is_cracked: whether the verdict is the class of cracks.
        facts: the same in words.
        picture: file of a picture that shows it twice: as it is, and next to that or below it with
            what was found.
        ratio: its width divided by its height.
        found: what the second of the two shows, after its name.
        notes: how to read that.
        cracks: of a photo, as in `inspection.json`, the longest first.
        crops: the first of them close up, as data URLs.
    """

    name: str
    problem: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    is_cracked: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    picture: Path = Path()
    ratio: float = 1.0
    found: str = ""
    notes: str = ""
    cracks: Sequence[Mapping[str, Any]] = ()
    crops: Sequence[str] = ()


def largest_patch(card: Card) -> int:
    """Pixels of the longer side up to which a picture is judged as a whole."""
    return 2 * (card.patch_size or card.image_size)


def ask(path: Path, mm_per_pixel: float | None, classifier: Classifier, out: Path) -> Answer:
    """Asks about a picture in the way that its size calls for.

    Args:
        path: of the picture.
        mm_per_pixel: millimetres on the surface for a pixel, when known.
        classifier: from `load_model`.
        out: folder for what is found, the same for all pictures of one report.

    Raises:
        UserError: when the picture cannot be read, or the model does not answer about photos.
    """
    image, _ = read_photo(path)
    if max(image.size) <= largest_patch(classifier.card):
        return _ask_patch(path, image, classifier, out)
    size = image.size
    del image  # Large, and about to be read again.
    folder = out / _PHOTOS
    [row] = inspect_photos([path], classifier, folder, mm_per_pixel=mm_per_pixel)
    if row["error"]:
        raise UserError(row["error"])
    # Photos of earlier calls come first.
    *_, photo = json.loads((folder / "inspection.json").read_text(encoding="utf-8"))["photos"]
    part = folder / ".parts" / f"{photo['digest']}.json"
    return Answer(
        path.name,
        row=row,
        is_cracked=row["verdict"] == classifier.card.positive_class,
        facts={
            "Highest probability of a crack": f"{row['probability']:.3f}",
            "Cracks traced": sum_up(row) or "none",
            "Photo": _tell(size),
        },
        picture=folder / row["overlay"],
        ratio=size[0] / size[1],
        found="with its cracks traced",
        notes="Lines are cracks, coloured by width; a region around them reaches beyond them.",
        cracks=photo["cracks"],
        crops=json.loads(part.read_text(encoding="utf-8"))["crops"],
    )


def _ask_patch(path: Path, patch: Image.Image, classifier: Classifier, out: Path) -> Answer:
    [said] = predict(patch, classifier)
    evidence, size = explain(patch, classifier), patch.size
    scale = _SHOWN / max(size)
    patch = patch.resize((round(patch.width * scale) or 1, round(patch.height * scale) or 1))
    picture = Image.new("RGB", (2 * patch.width + _GAP, patch.height), "white")
    picture.paste(patch)
    picture.paste(lay_heat(patch, evidence, _SHOWN), (patch.width + _GAP, 0))
    place = out / f"{path.parent.name}.png"  # As Gradio calls the folder, by the content.
    picture.save(place)
    return Answer(
        path.name,
        row={"verdict": str(said.label), "probability": said.probability},
        is_cracked=said.label == classifier.card.positive_class,
        facts={
            "Probability of a crack": f"{said.probability:.3f}",
            "Called a crack from": f"{classifier.card.threshold:.3f}",
            "Patch": _tell(size),
        },
        picture=place,
        ratio=patch.width / patch.height,
        found="with the evidence for a crack",
        notes="The brighter, the stronger the evidence thereabouts.",
    )


def _tell(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,} pixels"


def take_report(paths: Sequence[Path], out: Path) -> Path | None:
    """The report of all photos asked about, which does not say where the uploads were.

    Args:
        paths: of the pictures.
        out: folder of what was found.

    Returns:
        Its path, named after the photo when there is but one picture; None without a photo.
    """
    folder = out / _PHOTOS
    written = folder / "report.html"
    if not written.is_file():
        return None
    report = folder / (f"{paths[0].stem}-report.html" if len(paths) == 1 else "report.html")
    content = written.rename(report).read_text(encoding="utf-8")
    for path in paths:
        content = content.replace(f"{path.parent}/", "").replace(link_to(show(path), folder), "")
    report.write_text(content, encoding="utf-8")
    return report
