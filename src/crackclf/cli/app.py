"""`crackclf app`."""

import signal
import threading
from contextlib import suppress
from typing import Annotated

import typer

from crackclf.cli import options


def app(
    model: options.ModelOption = "shipped",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of this machine.")] = 7860,
    sha256: options.Sha256 = None,
) -> None:
    """Opens a web page on this machine: drop photos, see their cracks.

    A patch gets its probability and a picture of the evidence. Whole photos
    get their traced cracks and one report to download. The page can be opened
    on this machine only, and needs no network. Uploads are deleted once they
    are answered, everything else when the page is stopped with Ctrl-C.

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
