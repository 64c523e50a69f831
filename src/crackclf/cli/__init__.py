"""The command line: one file a verb. The work is done in the rooms."""

import errno
import io
import os
import sys
import tempfile

import typer

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

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Tells cracked concrete from sound concrete.\n\n"
    "\b\nAt once, with the model that comes with it:\n"
    "  crackclf inspect site-photos/\n"
    "  crackclf predict patches/\n\n"
    "\b\nA first round of training, nothing to download:\n"
    "  crackclf sample data/sample\n"
    "  crackclf train data/sample --out saved_models/first\n"
    "  crackclf evaluate saved_models/first data/sample\n"
    "  crackclf predict data/sample/Positive --model saved_models/first\n\n"
    "\b\nOn 40,000 real patches:\n"
    "  crackclf download data/metu\n"
    "  crackclf train data/metu --out saved_models/metu",
)
_DATA = (sample, download, audit)
_MODELS = (train, compare, evaluate, export)
_PICTURES = (predict, inspect, explain, page)
for _command in (*_DATA, *_MODELS, *_PICTURES):
    app.command()(_command)


def main() -> None:
    """Runs the command line; a user's mistake ends in one message and exit status 2."""
    # TensorFlow's start-up notes about processors and graphics cards help no user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MPLBACKEND", "Agg")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal need not know every letter.
            stream.reconfigure(errors="backslashreplace")
    try:
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
