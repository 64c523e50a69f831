"""`crackclf app`."""

import signal
import threading
from contextlib import suppress
from typing import Annotated

import typer

from crackclf.cli import options


def app(
    model: Annotated[str, typer.Option(help=options.MODEL)] = "shipped",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of this machine.")] = 7860,
    sha256: options.Sha256 = None,
) -> None:
    """Serves a web page on this machine: drop a photo, see where its cracks are.

    A patch is answered with its probability and where in it the evidence lies, a whole photo with
    its map, outlined regions and a report to download, as `crackclf inspect` writes it. The page
    can be opened on this machine only, and works without a network. Nothing is kept: uploads are
    deleted once they are answered, everything else when the page is stopped with Ctrl-C.

    \b
    Examples:
      crackclf app
      crackclf app --model saved_models/first --port 8080
    """
    options.check_model(model, sha256)
    from crackclf.app.server import serving
    from crackclf.prediction.classifier import load_model

    for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
        number = getattr(signal, name)
        if signal.getsignal(number) is signal.SIG_DFL:  # It would leave uploads behind.
            signal.signal(number, signal.default_int_handler)
    with serving(load_model(model), port) as address, suppress(KeyboardInterrupt):
        print(f"{address} (stop with Ctrl-C)", flush=True)
        threading.Event().wait()
