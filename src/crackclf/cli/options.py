"""Options and arguments that several commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from crackclf.errors import notice

MODEL = "Model folder, as `crackclf train` writes it, or the word shipped: crackclf's own model."
_DATA = "Folder with one sub-folder of images per class, e.g. Negative/ and Positive/."
Labelled = Annotated[Path, typer.Argument(help=_DATA)]
Splittable = Annotated[Path, typer.Argument(help=f"{_DATA} Or one split into train/ etc.")]
Epochs = Annotated[int, typer.Option(help="At most this many epochs.")]
ImageSize = Annotated[int, typer.Option(help="Side to which images are resized, pixels.")]
BatchSize = Annotated[int, typer.Option(help="Images per step.")]
ValidationSplit = Annotated[float, typer.Option(help="Share kept for validation.")]
TestSplit = Annotated[float, typer.Option(help="Share kept for the final test.")]
MAX_SEED = 2**32 - 1
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Of split, shuffling, augmentation, head.")
]
Positive = Annotated[
    str | None,
    typer.Option(
        help="Class folder that holds the cracked images, when its name does not tell.",
        metavar="FOLDER",
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="Regular expression for what must stay on one side of the split, e.g. the photo "
        r"number: '(\d+)-'.",
        metavar="REGEX",
    ),
]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable",
        help="Leave out, and list, files that cannot be read, instead of stopping.",
    ),
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Also write all figures there.", metavar="FILE")
]
RESULT_HEAD = '{\n  "written_by": "crackclf"'
CSV_HEAD = "file,label,probability,error\n"


@contextmanager
def resumable() -> Iterator[None]:
    """Says on Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        notice("interrupted; started again with the same arguments, it goes on")
        raise
