"""The web page served to browsers on this machine, and to nobody else."""

# pyright: reportMissingImports=false
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crackclf.app.page import CSS, KEPT, MEGABYTES, THEME, Page
from crackclf.errors import UserError
from crackclf.extras import need
from crackclf.prediction.classifier import Classifier

_HOST, _FOLDER = "127.0.0.1", "GRADIO_TEMP_DIR"
_UPLOAD = "/gradio_api/upload"
_PATHS = (
    *("/", "/favicon.ico", "/theme.css", _UPLOAD, f"{_UPLOAD}_progress"),
    *("/gradio_api/queue/join", "/gradio_api/queue/data"),
)


@contextmanager
def serving(classifier: Classifier, port: int = 7860) -> Iterator[str]:
    """Serves the page while a with block lasts.

    Pictures are answered one by one. Uploads and what is found are in a temporary folder: an
    upload until it is answered, the rest for a quarter of an hour, nothing when the block ends.

    Args:
        classifier: from `load_model`.
        port: of 127.0.0.1 to listen on; 0 for any that is free.

    Yields:
        The page's address.

    Raises:
        UserError: when the port cannot be had.

    Example:

    ```python
    with serving(load_model()) as address:
        input(f"{address} until you press Enter")
    ```
    """
    uvicorn = need("uvicorn", "app")
    try:
        listening = socket.create_server((_HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(
            f"port {port} cannot be had ({reason}). Name another one with --port."
        ) from None
    stop = threading.Event()
    with (
        listening,
        tempfile.TemporaryDirectory(prefix="crackclf-", ignore_cleanup_errors=True) as name,
    ):
        folder = Path(name).resolve()
        before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = str(folder)
        web: Any = _Gate(_mount(Page(classifier, folder)), folder)
        config = uvicorn.Config(web, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        threads = [
            threading.Thread(target=server.run, args=([listening],)),
            threading.Thread(target=_clean, args=(folder, stop)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield f"http://{_HOST}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            stop.set()
            for thread in threads:
                thread.join()
            del os.environ[_FOLDER]
            if before is not None:
                os.environ[_FOLDER] = before


def _clean(folder: Path, stop: threading.Event, kept: float = KEPT) -> None:
    """Removes what is older than this, also uploads broken off or never asked about."""
    while True:
        for entry in folder.iterdir():
            with suppress(OSError):  # Somebody else was faster.
                if entry.stat().st_mtime < time.time() - kept:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if stop.wait(60):
            return


def _mount(page: Page) -> Any:
    from fastapi import FastAPI

    return need("gradio", "app").mount_gradio_app(
        FastAPI(),
        page,
        "/",
        max_file_size=f"{MEGABYTES}mb",
        theme=THEME,
        css=CSS,
        footer_links=[],
        show_error=False,
        # What an environment variable could switch on.
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


class _Gate:
    """Lets through what the page needs; Gradio would also fetch addresses, make links, record."""

    def __init__(self, web: Any, folder: Path) -> None:
        self._web = web
        self._folders = ("/assets/", "/static/", f"/gradio_api/file={folder}{os.sep}")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        answer = self._web
        if scope["type"] == "http":
            path, headers = scope["path"], dict(scope["headers"])
            most = 2**16 + 2**20 * MEGABYTES * (path == _UPLOAD)
            length = headers.get(b"content-length", b"" if scope["method"] == "POST" else b"0")
            if path not in _PATHS and not path.startswith(self._folders):
                answer = PlainTextResponse("Not found.", 404)
            elif not length.isdigit() or int(length) > most:
                answer = PlainTextResponse(f"At most {MEGABYTES} MB can be uploaded.", 413)
        await answer(scope, receive, send)
