"""What the web page shows: pictures go up, what the package makes of them comes back."""

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from crackclf.app.answers import Answer, ask, largest_patch, take_report
from crackclf.app.examples import EXAMPLES, draw_example
from crackclf.app.render import render_details, render_progress, render_summary
from crackclf.errors import UserError
from crackclf.extras import need
from crackclf.images.apart import check_apart
from crackclf.images.decode import FORMATS
from crackclf.prediction.classifier import Classifier

gr = need("gradio", "app")

MEGABYTES = 64  # Of an upload, at most.
KEPT = 15 * 60  # Seconds that a result can be looked at and downloaded.
_AT_ONCE = 4  # People whose pictures are decoded; pictures are answered one by one.
_WAITING = 20  # People; more are refused until one is answered.

# Gradio puts the button that adds files into another one, which has no name that can be read.
SCRIPT = """() => new MutationObserver(() => {
  for (const outer of document.querySelectorAll('button[aria-label="common.upload"]')) {
    outer.ariaLabel = outer.title = "Add photos"
    outer.role = "group"
    outer.tabIndex = -1
  }
}).observe(document.body, { childList: true, subtree: true })"""
STYLE = Path(__file__).with_name("page.css")
THEME = (
    need("gradio.themes", "app")
    .Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["monospace"],
    )
    .set(  # By default too pale to be read by everybody.
        body_text_color_subdued="*neutral_500",
        link_text_color_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )
)


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
        side = largest_patch(classifier.card)
        with self:
            gr.Markdown(
                "# Is there a crack?\nDrop photos of concrete and press *Inspect*. What is called "
                "cracked or sound needs a person's eye before anybody relies on it."
            )
            with gr.Row(equal_height=True):
                uploads = gr.File(
                    label="Photos",
                    file_types=list(FORMATS),
                    file_count="multiple",
                    height=160,
                    scale=3,
                )
                with gr.Column(scale=2):
                    scale = gr.Number(
                        label="Millimetres per pixel",
                        info="On the surface; 0 when not known.",
                    )
                    button = gr.Button("Inspect", variant="primary")
            with gr.Row(elem_classes="examples"):
                gr.Markdown("No photo at hand? Try a drawn one:")
                examples = [gr.Button(name, size="sm", min_width=0) for name in EXAMPLES]
            # What changes here is read out by screen readers.
            summary = gr.HTML(
                elem_classes="answers",
                apply_default_css=False,
                js_on_load="element.ariaLive = 'polite'",
                min_height=60,
            )
            report = gr.DownloadButton("Download the report", visible=False)
            details = gr.HTML(elem_classes="answers", apply_default_css=False, js_on_load=None)
            gr.Markdown(
                f"JPEG, PNG, BMP, GIF, TIFF or WebP, up to {MEGABYTES} MB at a time. A picture of "
                f"up to {side} x {side} pixels is judged as a whole, a larger one searched all "
                f"over. An upload is deleted once it is answered, what was found {KEPT // 60} "
                "minutes later. Nothing leaves the computer that serves this page."
            )
            shown = [summary, details, report, uploads]
            options = {"show_progress_on": summary, "api_visibility": "private"}
            button.click(self._inspect, [uploads, scale], shown, **options)
            for example in examples:
                draw = partial(self._draw, example.value)
                example.click(draw, scale, shown, **options)
        self.queue(max_size=_WAITING, default_concurrency_limit=_AT_ONCE, api_open=False)

    def _inspect(
        self, uploads: list[str] | None, mm_per_pixel: float | None
    ) -> Iterator[tuple[Any, ...]]:
        """Says what is going on after each picture, and at the end what was found."""
        hidden = gr.update(visible=False)
        if not uploads:
            yield "Choose a photo or a patch first.", "", hidden, None
            return
        paths, out = [Path(x) for x in uploads], Path(tempfile.mkdtemp(dir=self._folder))
        path, answers, report = paths[0], [], None
        try:
            for path in paths:
                yield render_progress(path.name, len(answers), len(paths)), "", hidden, gr.skip()
                for used in (out, *(x.parent for x in paths)):
                    os.utime(used)  # Many pictures take long, and what is old is removed.
                answers.append(self._ask(path, mm_per_pixel or None, out))
            report = take_report(paths, out)
        except OSError as error:  # Of what is found, which has no room on the disk.
            answers = [Answer(path.name, f"{path.name}: {error.strerror}; try again later.")]
        finally:
            for upload in uploads:
                self._forget(upload)
        shown = gr.update(value=report, visible=report is not None)
        yield render_summary(answers), render_details(answers), shown, None

    def _ask(self, path: Path, mm_per_pixel: float | None, out: Path) -> Answer:
        try:
            check_apart(path)  # Others need not wait behind a bad picture.
            with self._answering:
                return ask(path, mm_per_pixel, self._classifier, out)
        except UserError as error:
            return Answer(path.name, str(error).replace(str(path), path.name))

    def _draw(self, name: str, mm_per_pixel: float | None) -> Iterator[tuple[Any, ...]]:
        card, folder = self._classifier.card, Path(tempfile.mkdtemp(dir=self._folder))
        drawn = draw_example(name, card.patch_size or card.image_size, folder)
        yield from self._inspect([str(drawn)], mm_per_pixel)

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


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _paths(item)
