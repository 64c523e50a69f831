"""Images by name, in folders or in object stores, listed on one machine and read on others."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from crackclf.errors import UserError, show
from crackclf.images.decode import FORMATS, check_size, read_content
from crackclf.images.listing import find_images
from crackclf.ray.cluster import pyarrow

_READERS = 8  # Files that are read at the same time: a store takes long to answer.


class Place(NamedTuple):
    """Where an image lies.

    Attributes:
        source: number of its file system among those of `list_images`; -1 is the machine's own.
        path: in that file system; bytes, because the name of a file need not be UTF-8.
    """

    source: int
    path: bytes


class Reader:
    """Reads images ahead, while earlier ones are looked at.

    Args:
        sources: file systems, from `list_images`.
        ahead: how many images to hold.
    """

    def __init__(self, sources: Sequence[Any], ahead: int):
        self._sources, self._ahead = sources, ahead
        self._pool = ThreadPoolExecutor(_READERS)

    def read(self, places: Iterable[Place]) -> Iterator[bytes | UserError]:
        """Gives the content of each image in turn, or why it cannot be read."""
        waiting: deque[Future[bytes | UserError]] = deque()
        for place in places:
            waiting.append(self._pool.submit(self._read, place))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _read(self, place: Place) -> bytes | UserError:
        try:
            if place.source < 0:
                return read_content(os.fsdecode(place.path))
            with self._sources[place.source].open_input_file(place.path.decode()) as file:
                check_size(file.size())
                return file.read()
        except UserError as error:
            return error
        except OSError as error:
            return UserError(error.strerror or str(error))


def list_images(paths: Sequence[str | os.PathLike]) -> tuple[list[Any], dict[str, Place]]:
    """Lists images of this machine's file systems and of others.

    Args:
        paths: files and folders, or URIs of such in an object store or another file system of
            pyarrow.

    Returns:
        The other file systems, as pyarrow has them, and the places of the images by their names,
        each image once.

    Raises:
        UserError: when a path does not exist, or a folder holds no image.
    """
    sources, images = [], {}
    for path in [os.fspath(path) for path in paths]:
        if "://" in path:
            source, found = _list_uri(path)
            # The rest of the URI may hold a key to the store, so it is left out.
            scheme = path.partition("://")[0]
            images |= {f"{scheme}://{x}": Place(len(sources), x.encode()) for x in found}
            sources.append(source)
        else:
            for file in find_images([path]):
                images[show(file)] = Place(-1, os.fsencode(file.absolute()))
    if not images:
        find_images([])
    return sources, images


def _list_uri(uri: str) -> tuple[Any, list[str]]:
    fs = pyarrow.fs
    try:
        source, path = fs.FileSystem.from_uri(uri)
        if source.get_file_info(path).type == fs.FileType.File:
            return source, [path]
        inside = source.get_file_info(fs.FileSelector(path, recursive=True))
    # Each store has its own kind of error.
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{uri}: cannot be listed ({error}).") from None
    found = sorted(
        file.path
        for file in inside
        if file.type == fs.FileType.File
        and f".{file.extension.lower()}" in FORMATS
        and not any(part.startswith(".") for part in file.path[len(path) :].split("/"))
    )
    if not found:
        raise UserError(f"{uri}: holds no image. Expected files ending in {', '.join(FORMATS)}.")
    return source, found
