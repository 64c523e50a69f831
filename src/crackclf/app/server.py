"""The web page served to browsers on this machine, and to nobody else."""

# pyright: reportMissingImports=false
import asyncio
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

from filelock import FileLock

from crackclf.app.page import KEPT, MEGABYTES, SCRIPT, STYLE, THEME, Page
from crackclf.errors import UserError
from crackclf.extras import need
from crackclf.prediction.classifier import Classifier

_HOST, _FOLDER = "127.0.0.1", "GRADIO_TEMP_DIR"
_PREFIX, _LOCK = "crackclf-app-", ".lock"
_PATIENCE, _BODY_SECONDS = 15, 60  # Seconds for a request's header, and for its body.
_CONNECTIONS, _UPLOADS = 256, 8  # At once.
_FOLDER_MEGABYTES = 1024  # Of uploads and results, from which on no more is taken.
_LEAST_FREE = 2**20 * (MEGABYTES + 16)  # Bytes on the disk for one upload and its results.
_UPLOAD, _JOIN = "/gradio_api/upload", "/gradio_api/queue/join"
_PATHS = (
    *("/", "/favicon.ico", "/theme.css", _UPLOAD, f"{_UPLOAD}_progress"),
    *(_JOIN, "/gradio_api/queue/data"),
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
    _remove_left()
    with (
        listening,
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name,
        FileLock(Path(name) / _LOCK),
    ):
        folder, at = Path(name).resolve(), listening.getsockname()[1]
        before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = str(folder)
        web: Any = _Gate(_mount(Page(classifier, folder)), folder, at)
        config = uvicorn.Config(
            web,
            http=_impatient(),
            limit_concurrency=_CONNECTIONS,
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        threads = [
            threading.Thread(target=server.run, args=([listening],)),
            threading.Thread(target=_clean, args=(folder, stop)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield f"http://{_HOST}:{at}"
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
        for entry in (x for x in folder.iterdir() if x.name != _LOCK):
            with suppress(OSError):  # Somebody else was faster.
                if entry.stat().st_mtime < time.time() - kept:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if stop.wait(60):
            return


def _remove_left() -> None:
    """Removes what a server that was killed has left: its folder is locked by nobody."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_mtime < time.time() - 60:  # Else it may be just being locked.
                with FileLock(folder / _LOCK, blocking=False):
                    pass
                shutil.rmtree(folder, ignore_errors=True)


def _impatient() -> type:
    """Uvicorn's protocol, which closes connections whose header does not come to an end."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(_PATIENCE, self._look)

        def _look(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()
            else:
                self.loop.call_later(_PATIENCE, self._look)

    return Impatient


def _mount(page: Page) -> Any:
    from fastapi import FastAPI

    return need("gradio", "app").mount_gradio_app(
        FastAPI(),
        page,
        "/",
        max_file_size=f"{MEGABYTES}mb",
        theme=THEME,
        css_paths=STYLE,
        js=SCRIPT,
        footer_links=[],
        show_error=False,
        # What an environment variable could switch on.
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
    )


class _Gate:
    """Lets through what the page needs, from the page itself, as much as the disk is to hold.

    Gradio would also fetch addresses, make links and record; and any site could send it files by
    the browser of somebody who looks at that site.
    """

    def __init__(self, web: Any, folder: Path, port: int) -> None:
        self._web, self._folder = web, folder
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self._hosts = [f"{host}:{port}".encode() for host in (_HOST, "localhost")]
        self._folders = ("/assets/", "/static/", f"/gradio_api/file={folder}{os.sep}")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        answer = self._web
        if scope["type"] == "http":
            path, headers = scope["path"], dict(scope["headers"])
            most = 2**16 + 2**20 * MEGABYTES * (path == _UPLOAD)
            length = headers.get(b"content-length", b"" if scope["method"] == "POST" else b"0")
            host, origin = headers.get(b"host"), headers.get(b"origin")
            if host not in self._hosts or origin not in (None, b"http://" + host):
                answer = PlainTextResponse("This page answers to itself only.", 403)
            elif path not in _PATHS and not path.startswith(self._folders):
                answer = PlainTextResponse("Not found.", 404)
            elif not length.isdigit() or int(length) > most:
                answer = PlainTextResponse(
                    f"At most {MEGABYTES} MB can be uploaded at a time.", 413
                )
            elif path == _UPLOAD:
                await self._upload(scope, receive, send)
                return
            elif scope["method"] == "POST":
                receive = _in_time(receive)
        await self._answer(answer, scope, receive, send)

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        async with self._uploads:
            web = self._web
            free = shutil.disk_usage(self._folder).free
            if _size(self._folder) > 2**20 * _FOLDER_MEGABYTES or free < _LEAST_FREE:
                web = PlainTextResponse("Too much was uploaded; try again in some minutes.", 503)
            await self._answer(web, scope, _in_time(receive), send)

    async def _answer(self, web: Any, scope: Any, receive: Any, send: Any) -> None:
        async def tell(message: Any) -> None:
            if scope["path"] == _JOIN and message.get("status") == 500:
                message["status"] = 400  # Of a function that is none, which no page asks for.
            await send(message)

        if scope["type"] != "http":
            await web(scope, receive, send)
            return
        with suppress(Exception):  # Starlette has told it, and would have it printed as well.
            await web(scope, receive, tell)


def _in_time(receive: Any) -> Any:
    """Gives up a request whose body does not come to an end."""
    until: float | None = time.monotonic() + _BODY_SECONDS

    async def take() -> Any:
        nonlocal until
        if until is None:  # All of it is here; what comes now is that the browser has gone.
            return await receive()
        message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        if not message.get("more_body"):
            until = None
        return message

    return take


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total
