"""The command line: one file a verb. The work is done in the rooms."""

import errno
import io
import os
import sys
import tempfile
from typing import Annotated

import typer

from crackclf import __version__
from crackclf.cli.app import app as page
from crackclf.cli.audit import audit
from crackclf.cli.compare import compare
from crackclf.cli.download import download
from crackclf.cli.evaluate import evaluate
from crackclf.cli.explain import explain
from crackclf.cli.export import export
from crackclf.cli.inspect import inspect
from crackclf.cli.predict import predict
from crackclf.cli.sample import sample
from crackclf.cli.train import train
from crackclf.errors import UserError, show
from crackclf.extras import learning

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Tells cracked concrete from sound concrete.\n\n"
    "With the model in the box, which needs no training:\n"
    "  crackclf inspect site-photos/\n"
    "  crackclf predict patches/\n\n"
    "A first training, on drawn images:\n"
    "  crackclf sample data/sample\n"
    "  crackclf train data/sample --out saved_models/first\n"
    "  crackclf evaluate saved_models/first data/sample\n"
    "  crackclf predict data/sample/Positive --model saved_models/first\n\n"
    "A training on 40,000 real patches:\n"
    "  crackclf download data/metu\n"
    "  crackclf train data/metu --out saved_models/metu",
)
_PANELS = {
    "Look for cracks": (predict, inspect, explain, page),
    "Get images": (sample, download, audit),
    "Train a model": (train, compare, evaluate, export),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"crackclf {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line; a user's mistake ends in one message and exit status 2."""
    # TensorFlow's start-up notes about processors and graphics cards help no user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MPLBACKEND", "Agg")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal need not know every letter.
            stream.reconfigure(errors="backslashreplace")
    try:
        with learning():
            app()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.strerror is None:
            raise
        where = show(str(error.filename)) + ": " if error.filename is not None else ""
        if error.errno == errno.ENOSPC and not where:
            where = f"{tempfile.gettempdir()}, for temporary files (TMPDIR names another folder): "
        print(f"Error: {where}{error.strerror}.", file=sys.stderr)
        sys.exit(2)
