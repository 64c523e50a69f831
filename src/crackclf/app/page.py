"""What the web page shows: a picture goes up, what the package makes of it comes back."""

import csv
import html
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from crackclf.errors import UserError
from crackclf.extras import need
from crackclf.images.apart import check_apart
from crackclf.images.decode import FORMATS, read_photo
from crackclf.inspection.folder import inspect_photos, read_crops
from crackclf.inspection.overlay import lay_heat
from crackclf.inspection.records import sum_up
from crackclf.inspection.report import link_to
from crackclf.prediction.classifier import Classifier
from crackclf.prediction.explain import explain
from crackclf.prediction.predict import predict
from crackclf.saved.card import Card

gr = need("gradio", "app")

MEGABYTES = 64  # Of an upload, at most.
KEPT = 15 * 60  # Seconds that a result can be looked at and downloaded.
_AT_ONCE = 4  # Pictures that are decoded; they are answered one by one.
_WAITING = 20  # Pictures; more are refused until one is answered.
_LISTED = 10  # Cracks in the table beside the picture; the report has all.
_SHOWN, _GAP = 600, 16  # Pixels of the longer side of a patch, and between it and its evidence.

THEME = need("gradio.themes", "app").Default(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["monospace"],
)
CSS = """
.gradio-container { max-width: 80em !important }
.verdict { border-left: .5em solid #b26a00; padding: .1em 1em }
.verdict.sound { border-color: #2e7d32 } .verdict.cracked { border-color: #c62828 }
.verdict strong { display: block; font-size: 1.8em; line-height: 1.4 }
.facts, .facts tr, .facts td { border: 0 !important }
.facts { margin: .6em 0 } .facts td { padding: .15em 1.5em .15em 0 !important }
.facts td + td { font-variant-numeric: tabular-nums; font-weight: 600 }
.cracks img { width: 150px }
.map img { max-height: 75vh; object-fit: contain }
"""
_WELCOME = (
    "<p>The verdict comes here, with a map of where, and for a photo a report to download.</p>"
)
_CAUTION = (
    "What a model calls a crack, or passes, needs a person's eye before anybody relies on it."
)


class _Answer(NamedTuple):
    text: str
    report: Path | None = None
    picture: Path | None = None


class Page(gr.Blocks):
    """The page and what happens on it.

    Gradio has no public way for three things, so they rest on names that it may change; the tests
    of the app fail when it does. `upload_file_set` holds the uploads: two users' same picture is
    one file, which is kept until both are answered. `state_session_capacity` is how many sessions
    are remembered. `preprocess_data` sees what a browser sends first.

    Args:
        classifier: from `load_model`.
        folder: where Gradio keeps uploads, and what is found goes.
    """

    def __init__(self, classifier: Classifier, folder: Path) -> None:
        super().__init__(analytics_enabled=False, title="crackclf")
        self._classifier, self._folder = classifier, folder
        self._answering = threading.Lock()  # An answer takes all cores.
        self.upload_file_set: Any = Counter()
        self.state_session_capacity = 2 * _WAITING
        side = _largest_patch(classifier.card)
        with self:
            gr.Markdown(
                "# Is there a crack?\nDrop a photo of concrete, or a patch cut out of one. A "
                f"picture of up to {side} x {side} pixels is judged as a whole, a larger one "
                "searched all over."
            )
            with gr.Row():
                with gr.Column(scale=2):
                    upload = gr.File(label="Photo or patch", file_types=list(FORMATS), height=180)
                    scale = gr.Number(
                        label="Millimetres per pixel",
                        info="On the surface, to give sizes in mm. 0 when not known.",
                    )
                    button = gr.Button("Inspect", variant="primary")
                    gr.Markdown(
                        f"JPEG, PNG, BMP, GIF, TIFF or WebP, up to {MEGABYTES} MB. An upload is "
                        f"deleted once it is answered, what was found {KEPT // 60} minutes later. "
                        "Nothing leaves the computer that serves this page."
                    )
                with gr.Column(scale=3):
                    text = gr.HTML(_WELCOME, min_height=90)
                    report = gr.DownloadButton("Download the report", visible=False)
                    picture = gr.Image(
                        show_label=False, visible=False, buttons=["fullscreen"], elem_classes="map"
                    )
            button.click(
                self._inspect,
                [upload, scale],
                [text, report, picture, upload],
                show_progress_on=text,
                api_visibility="private",
            )
        self.queue(max_size=_WAITING, default_concurrency_limit=_AT_ONCE, api_open=False)

    def _inspect(self, upload: str | None, mm_per_pixel: float | None) -> tuple[Any, ...]:
        found = _Answer(_problem("Choose a photo or a patch first."))
        if upload is not None:
            path, out = Path(upload), Path(tempfile.mkdtemp(dir=self._folder))
            try:
                check_apart(path)  # Others need not wait behind a bad picture.
                with self._answering:
                    found = _ask(path, mm_per_pixel or None, self._classifier, out)
            except UserError as error:
                found = _Answer(_problem(str(error).replace(upload, path.name)))
            except OSError as error:  # Of what is found, which has no room on the disk.
                found = _Answer(_problem(f"{path.name}: {error.strerror}; try again later."))
            finally:
                self._forget(upload)
        files = (gr.update(value=file, visible=file is not None) for file in found[1:])
        return found.text, *files, None

    def _forget(self, upload: str) -> None:
        self.upload_file_set[upload] -= 1
        if self.upload_file_set[upload] <= 0:
            del self.upload_file_set[upload]
            Path(upload).unlink(missing_ok=True)

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **more: Any):
        """Takes files from uploads alone; of an address, Gradio would fetch what is there."""
        for path in map(Path, _paths(inputs)):
            if not path.resolve().is_relative_to(self._folder) or not path.is_file():
                raise gr.Error(f"{path.name} is not here: upload it.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **more)


def _largest_patch(card: Card) -> int:
    return 2 * (card.patch_size or card.image_size)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _paths(item)


def _ask(path: Path, mm_per_pixel: float | None, classifier: Classifier, out: Path) -> _Answer:
    """Asks about a picture in the way that its size calls for."""
    image, _ = read_photo(path)
    size = f"{image.width:,} x {image.height:,} pixels"
    if max(image.size) <= _largest_patch(classifier.card):
        return _ask_patch(image, size, classifier, out)
    del image  # Large, and about to be read again.
    [photo] = inspect_photos([path], classifier, out, mm_per_pixel=mm_per_pixel)
    if photo["error"]:
        raise UserError(photo["error"])
    facts = {
        "Highest probability of a crack": f"{photo['probability']:.3f}",
        "Cracks traced": sum_up(photo) or "none",
        "Photo": f"{path.name}, {size}",
    }
    notes = (
        "Lines are cracks, coloured by width; a region around them reaches beyond them. The report "
        "has each of them, and the thresholds."
    )
    text = _describe(photo["verdict"], classifier.card, facts, notes) + _tabulate(out)
    report = (out / "report.html").rename(out / f"{path.stem}-report.html")
    content = report.read_text(encoding="utf-8")
    # A reader of the report need not know where the upload was.
    content = content.replace(f"{path.parent}/", "").replace(link_to(str(path), out), "")
    report.write_text(content, encoding="utf-8")
    return _Answer(text, report, out / photo["overlay"])


def _ask_patch(patch: Image.Image, size: str, classifier: Classifier, out: Path) -> _Answer:
    [said] = predict(patch, classifier)
    facts = {
        "Probability of a crack": f"{said.probability:.3f}",
        "Called a crack from": f"{classifier.card.threshold:.3f}",
        "Patch": size,
    }
    notes = "The brighter, the stronger the evidence thereabouts."
    evidence = explain(patch, classifier)
    scale = _SHOWN / max(patch.size)
    patch = patch.resize((round(patch.width * scale) or 1, round(patch.height * scale) or 1))
    picture = Image.new("RGB", (2 * patch.width + _GAP, patch.height), "white")
    picture.paste(patch)
    picture.paste(lay_heat(patch, evidence, _SHOWN), (patch.width + _GAP, 0))
    picture.save(out / "evidence.png")
    text = _describe(str(said.label), classifier.card, facts, notes)
    return _Answer(text, None, out / "evidence.png")


def _tabulate(out: Path) -> str:
    """The longest cracks as a table, close up; they are numbered as in the picture."""
    with (out / "cracks.csv").open(newline="", encoding="utf-8") as file:
        cracks = list(csv.DictReader(file))[:_LISTED]
    if not cracks:
        return ""
    crops = read_crops(out)
    unit = "mm" if cracks[0]["length_mm"] else "px"
    names = [f"{name}_{unit}" for name in ("length", "mean_width", "max_width")]
    titles = (
        "No.",
        "Close up",
        f"Length, {unit}",
        f"Mean width, {unit}",
        f"Widest, {unit}",
        "Probability",
    )
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = ""
    for crack, crop in zip(cracks, crops, strict=False):
        cells = [html.escape(crack[x]) for x in ("crack", *names, "probability")]
        cells.insert(1, f'<img src="{crop}" alt="crack {cells[0]}, close up">')
        rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return f'<table class="cracks"><tr>{head}</tr>{rows}</table>'


def _describe(label: str, card: Card, facts: dict[str, str], notes: str) -> str:
    rows = "".join(
        f"<tr><td>{key}</td><td>{html.escape(value)}</td></tr>" for key, value in facts.items()
    )
    kind = "cracked" if label == card.positive_class else "sound"
    label = html.escape(label.replace("_", " ").capitalize())
    return (
        f'<div class="verdict {kind}"><strong>{label}</strong></div>'
        f'<table class="facts">{rows}</table><p>{notes} {_CAUTION}</p>'
    )


def _problem(message: str) -> str:
    return f'<div class="verdict"><strong>No answer</strong>{html.escape(message)}</div>'
