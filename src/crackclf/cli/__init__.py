"""The command line. The work is done in the modules beside this folder."""

import inspect
import io
import os
import sys

import typer

from crackclf import __version__, errors
from crackclf.cli import answering, images, learning
from crackclf.cli.options import option


def _keep_lines(text: str | None) -> str:
    """Marks paragraphs, so that the help shows their lines as they are."""
    return inspect.cleandoc(text or "").replace("\n\n", "\n\n\b\n")


# Without rich, whose import takes longer than all else.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    *(answering.predict, answering.inspect, answering.app),
    *(images.sample, images.download, images.audit),
    *(learning.train, learning.compare, learning.evaluate, learning.export),
):
    app.command(help=_keep_lines(_command.__doc__))(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"crackclf {__version__}")
        raise typer.Exit


def _start(
    version: bool = option(
        False, "Show the version and exit.", "--version", callback=_show_version, is_eager=True
    ),
) -> None:
    """Tells cracked concrete from sound concrete.

    With the model in the box:
      crackclf inspect site-photos/

    A first training, on drawn images:
      crackclf sample data/sample
      crackclf train data/sample --out saved_models/first
      crackclf predict data/sample/Positive --model saved_models/first
    """


app.callback(help=_keep_lines(_start.__doc__))(_start)


def main() -> None:
    """Runs the command line; a user's mistake ends in one message and exit status 2."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # Whatever the user's other programs work with.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal may lack some characters.
            stream.reconfigure(errors="backslashreplace")
    message, leave = "", sys.exit
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C.
            errors.notice("interrupted. Run the same command again to go on")
        raise
    except errors.UserError as error:
        message = str(error)
        if "file write failed" in str(error.__cause__):
            leave = os._exit  # HDF5 crashes the process at its end when it could not write.
    except OSError as error:
        name = "" if error.filename is None else f"{errors.show(str(error.filename))}: "
        message = f"{name}{error.strerror or error}."
    sys.stdout.flush()
    print(f"Error: {message}", file=sys.stderr, flush=True)
    leave(2)
