"""A web page on this machine: photos are uploaded, their cracks are shown."""

import math
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from PIL import ImageDraw

from crackclf.errors import UserError, need
from crackclf.folders import digest_of
from crackclf.images import FORMATS
from crackclf.listing import Picture
from crackclf.photos import records
from crackclf.photos.folder import add_photo, describe_settings, write_report
from crackclf.photos.overlay import lay_heat, shrink
from crackclf.photos.photo import inspect_picture
from crackclf.prediction import Classifier, explain, predict

gr = need("gradio", "app")
Middleware = need("starlette.middleware", "app").Middleware
TrustedHosts = need("starlette.middleware.trustedhost", "app").TrustedHostMiddleware

_KEPT, _MEGABYTES = 900, 64  # Seconds that files are kept, and the largest upload.
_RULER = 1600  # Pixels of the longer side of the photo that the scale is measured on.
_COLUMNS = (*records.COLUMNS[:8], "error")
_CRACK_COLUMNS = records.CRACK_COLUMNS[:9]
_PROGRESS = gr.Progress()  # Gradio looks for it among the defaults of a function.


def build_page(classifier: Classifier) -> Any:
    """Builds the page, a `gradio.Blocks`, for a classifier from `load_model`."""
    # Pixels of the longer side up to which a picture is one patch.
    limit = 2 * (classifier.card.patch_size or classifier.card.image_size)
    with gr.Blocks(analytics_enabled=False, title="crackclf", delete_cache=(60, _KEPT)) as page:
        gr.Markdown(
            "# Is there a crack?\nChoose photos of concrete. A person must check each result."
        )
        with gr.Row():
            files = gr.File(label="Photos", file_types=list(FORMATS), file_count="multiple")
            with gr.Column():
                scale = gr.Number(label="Millimetres per pixel, 0 when not known", minimum=0)
                button = gr.Button("Inspect", variant="primary")
        with gr.Accordion("Measure the scale on the first photo", open=False):
            length = gr.Number(label="A length in it, in millimetres", minimum=0)
            ruler = gr.Image(label="Click both ends of that length", interactive=False, type="pil")
        results = gr.Dataframe(headers=list(_COLUMNS), label="Results", wrap=True)
        pictures = gr.Gallery(label="Pictures", columns=2, object_fit="contain", height=640)
        cracks = gr.Dataframe(headers=list(_CRACK_COLUMNS), label="Cracks, the longest first")
        report = gr.DownloadButton("Download the report", visible=False)
        gr.Markdown(
            f"JPEG, PNG, BMP, GIF, TIFF or WebP, up to {_MEGABYTES} MB each. A picture of up to "
            f"{limit} x {limit} pixels is judged as one patch. In a larger one, cracks are "
            f"searched and measured. Uploads and results are deleted after {_KEPT // 60} minutes. "
            "Nothing leaves the computer that serves this page."
        )
        clicks = gr.State(([], 1.0))
        files.change(_show_ruler, files, [ruler, clicks], api_visibility="private")
        measured = {"outputs": [ruler, clicks, scale], "api_visibility": "private"}
        ruler.select(_click, [files, clicks, length], **measured)
        length.change(_measure, [files, clicks, length], **measured)
        shown = [results, pictures, cracks, report]
        answer = partial(_answer, classifier, limit)
        button.click(answer, [files, scale], shown, api_visibility="private")
    page.queue(max_size=20, default_concurrency_limit=1)  # One answer takes all cores.
    return page


def serve(classifier: Classifier, port: int = 7860) -> None:
    """Serves the page until Ctrl-C, on 127.0.0.1: other machines cannot reach it."""
    page = build_page(classifier)
    try:
        _, address, _ = page.launch(
            prevent_thread_lock=True,
            quiet=True,
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            max_file_size=f"{_MEGABYTES}mb",
            footer_links=[],
            run_history=False,
            # A web site could reach the page by a name of its own for 127.0.0.1.
            app_kwargs={"middleware": [Middleware(TrustedHosts, ["127.0.0.1", "localhost"])]},
        )
    except OSError:
        raise UserError(f"port {port} is in use. Name another one with --port.") from None
    print(f"{address} (stop with Ctrl-C)", flush=True)
    # Stopped by `kill`, the page deletes uploads as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    page.close()


def _show_ruler(files: list[str] | None) -> tuple[Any, Any]:
    """The first photo, small enough for the page; and no clicks, and pixels to each of its own."""
    with suppress(UserError):
        if files:
            photo = Picture(Path(files[0]).name, Path(files[0])).read()
            small = shrink(photo, _RULER)
            return small, ([], photo.width / small.width)
    return None, ([], 1.0)


def _click(files: Any, clicks: Any, length: float, event: gr.SelectData) -> Any:  # pyright: ignore
    """Takes another end of the known length, of which the last two count."""
    points, ratio = clicks
    return _measure(files, ([*points, tuple(event.index)][-2:], ratio), length)


def _measure(files: list[str], clicks: Any, length: float) -> tuple[Any, ...]:
    """The first photo with its clicks, these, and the scale when both ends are known."""
    (points, ratio), (photo, _) = clicks, _show_ruler(files)
    if photo is None or not points:
        return photo, clicks, gr.skip()
    draw = ImageDraw.Draw(photo)
    draw.line(points, "red", 3)
    for x, y in points:
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline="red", width=3)
    pixels = ratio * math.dist(points[0], points[-1])
    scale = round(length / pixels, 5) if length and pixels else gr.skip()
    return photo, clicks, scale


def _answer(
    classifier: Classifier, limit: int, files: Any, mm_per_pixel: float, progress: Any = _PROGRESS
) -> Iterator[tuple[Any, ...]]:
    """Results, pictures, cracks and the report of uploaded files."""
    if not files:
        raise gr.Error("Choose a photo first.", print_exception=False)
    rows, pictures, photos, scale, settings = [], [], [], records.Scale(mm_per_pixel or None), {}
    # Gradio copies what is yielded. Then it resumes the function, and the folder is deleted.
    with tempfile.TemporaryDirectory() as folder:
        for file in progress.tqdm(files, desc="Inspecting"):
            name, content = Path(file).name, Path(file).read_bytes()
            try:
                photo = Picture(name, Picture(name, content).open())  # Decoded once.
                if max(photo.open().size) <= limit:
                    image = photo.read()
                    [found] = predict(image, classifier)
                    answer = {"verdict": found.label, "probability": f"{found.probability:.4f}"}
                    rows.append({"file": name, **answer})
                    pictures.append((image, name))
                    if classifier.card.cell_size:
                        heat = lay_heat(image, explain(image, classifier))
                        pictures.append((heat, f"{name}: evidence for a crack is bright"))
                    continue
                settings = describe_settings(classifier.card)
                found = inspect_picture(photo, classifier, settings["region_threshold"])
                part = f"{digest_of(content)}.json"
                record = add_photo(*found, classifier, part, Path(folder))
                photos.append(records.add_sizes(record, scale.mm_per_pixel) | {"reviews": {}})
                rows.append(records.to_row(photos[-1]))
                overlay = f"{folder}/{record['overlay']}"
                pictures.append((overlay, f"{name}: cracks, coloured by width"))
            except UserError as error:
                rows.append({"file": name, "error": str(error)})
        if photos:
            write_report(Path(folder), settings | vars(scale), photos)
        report = gr.update(visible=bool(photos), value=f"{folder}/report.html" if photos else None)
        results = [[row.get(name) for name in _COLUMNS] for row in rows]
        found = [row for photo in photos for row in records.to_crack_rows(photo)]
        cracks = [[row[name] for name in _CRACK_COLUMNS] for row in found]
        yield results, pictures, cracks, report
