"""Answers for millions of images, from a Ray cluster into a folder of Parquet files."""

import json
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from crackclf.errors import UserError
from crackclf.files import write_whole
from crackclf.ray.carried import CarriedModel
from crackclf.ray.cluster import map_blocks, pyarrow
from crackclf.ray.sources import Place, Reader, list_images

_BATCHES = 4  # In a block, which is what is lost when a worker dies.
_MOST_BLOCKS = 20_000  # Each costs Ray some time and memory.
_OFTEN = 60.0  # Seconds after which the rows that have come are written.
_NOTE = b"crackclf"
_DONE = "_SUCCESS"


@dataclass(frozen=True)
class Outcome:
    """What `map_images` has written.

    Attributes:
        images: the number of images, and of rows.
        counts: the number of images by label or verdict.
        unreadable: how many could not be read.
        errors: of the first of these.
    """

    images: int
    counts: dict[str, int]
    unreadable: int
    errors: tuple[str, ...]


def map_images(
    model: CarriedModel,
    paths: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    address: str | None = None,
) -> Outcome:
    """Answers for images on a Ray cluster, with exactly one row of Parquet for each.

    A worker that dies costs no row. Rows are written once a minute, and when the run is
    interrupted; called again with the same arguments, it goes on with the images that are missing.
    In the end the rows are read back and compared with the images; only then is an empty file
    `_SUCCESS` made.

    Args:
        model: a `Predictor` or an `Inspector`.
        paths: files and folders, which all machines must see at the same place, or URIs of such in
            an object store (`s3://`, `gs://`) or another file system of pyarrow.
        out: folder to make on this machine, or one that an earlier call has made.
        address: of a running cluster, HOST:PORT; None for the one in `RAY_ADDRESS`, or else for
            all cores of this machine.

    Returns:
        An `Outcome`.

    Raises:
        UserError: when a path names no image, the folder holds something else, or the cluster
            cannot be used.

    Example:

    ```python
    map_images(Predictor("saved_models/first"), ["s3://bridges/2026/"], "cracks", "10.0.0.1:6379")
    ```
    """
    out = Path(out)
    sources, images = list_images(paths)
    note = json.dumps({"written_by": "crackclf", **model.settings})
    schema = pyarrow.schema(list(model.columns.items()), metadata={_NOTE: note})
    _check_folder(out, schema)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", blocking=False):
            done = _read(out, schema, ["file"])["file"].to_pylist()
            if other := set(done).difference(images):
                raise UserError(
                    f"{out}: holds rows of {len(other)} images that are not among those named, "
                    f"{other.pop()} for one. Name another folder."
                )
            missing = {name: images[name] for name in images.keys() - set(done)}
            if missing:
                (out / _DONE).unlink(missing_ok=True)
                blocks = _cut(missing, model.images)
                tables = map_blocks(partial(_Worker, model, sources, schema), blocks, address)
                _write(tables, out, schema, len(images), len(done))
            return _check_rows(out, schema, images, model.answer)
    except Timeout:
        raise UserError(f"{out}: another crackclf is writing there; wait for it.") from None


class _Worker:
    """What a process of the cluster does."""

    def __init__(self, model: CarriedModel, sources: Sequence[Any], schema: pyarrow.Schema):
        self._model, self._schema = model, schema
        self._reader = Reader(sources, 2 * model.images)

    def __call__(self, block: pyarrow.Table) -> Iterator[pyarrow.Table]:
        names = iter(block["file"].to_pylist())
        places = zip(block["source"].to_pylist(), block["path"].to_pylist(), strict=True)
        contents = self._reader.read(Place(*place) for place in places)
        while batch := list(islice(zip(names, contents), self._model.images)):  # noqa: B905
            columns = self._model(
                {
                    "path": [name for name, _ in batch],
                    "bytes": [content for _, content in batch],
                    "error": [str(x) if isinstance(x, UserError) else "" for _, x in batch],
                }
            )
            yield pyarrow.table(columns, schema=self._schema)


def _cut(images: Mapping[str, Place], batch: int) -> list[pyarrow.Table]:
    table = pyarrow.table(
        {
            "file": list(images),
            "source": [place.source for place in images.values()],
            "path": [place.path for place in images.values()],
        }
    )
    rows = max(_BATCHES * batch, -(-len(images) // _MOST_BLOCKS))
    return [table.slice(start, rows) for start in range(0, len(table), rows)]


def _write(
    tables: Generator[pyarrow.Table], out: Path, schema: pyarrow.Schema, total: int, done: int
) -> None:
    number = 1 + max((int(part.stem.partition("-")[2]) for part in _parts(out)), default=-1)
    waiting, since = [], time.monotonic()
    with (
        closing(tables),
        tqdm(total=total, initial=done, desc="On the cluster", unit=" images") as bar,
    ):
        try:
            for table in tables:
                waiting.append(table.select(schema.names).cast(schema))
                bar.update(len(table))
                if time.monotonic() - since > _OFTEN:
                    _write_part(out, number, waiting)
                    number, waiting, since = number + 1, [], time.monotonic()
        finally:
            _write_part(out, number, waiting)


def _write_part(out: Path, number: int, tables: list[pyarrow.Table]) -> None:
    if tables:
        content = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables), content)
        write_whole(out / f"part-{number:05}.parquet", content.getvalue().to_pybytes())


def _parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def _read(out: Path, schema: pyarrow.Schema, columns: list[str]) -> pyarrow.Table:
    tables = [pyarrow.parquet.read_table(part, columns=columns) for part in _parts(out)]
    return pyarrow.concat_tables([schema.empty_table().select(columns), *tables])


def _check_folder(out: Path, schema: pyarrow.Schema) -> None:
    if not out.exists():
        return
    parts = _parts(out)
    others = [x for x in out.iterdir() if not x.name.startswith(("_", "."))] if out.is_dir() else []
    try:
        notes = {(pyarrow.parquet.read_schema(x).metadata or {}).get(_NOTE) for x in parts}
    except (pyarrow.ArrowException, OSError):
        notes = {None}
    if not out.is_dir() or len(others) > len(parts) or None in notes:
        raise UserError(
            f"{out}: is there already and was not written by crackclf. Name another folder."
        )
    if notes - {schema.metadata[_NOTE]}:
        raise UserError(
            f"{out}: holds the answers of another model, or of other settings. Name another folder."
        )


def _check_rows(
    out: Path, schema: pyarrow.Schema, images: Mapping[str, Place], answer: str
) -> Outcome:
    rows = _read(out, schema, ["file", answer, "error"])
    found = set(rows["file"].to_pylist())
    if found != images.keys() or len(rows) != len(images):
        raise UserError(
            f"{out}: expected one row for each of {len(images)} images. Received: {len(rows)} "
            f"rows; {len(images.keys() - found)} images have none. Start again with the same "
            "arguments to have those done."
        )
    (out / _DONE).touch()
    failed = rows.filter(pyarrow.compute.field("error") != "")["error"]
    counts = {x["values"]: x["counts"] for x in rows[answer].value_counts().to_pylist()}
    unreadable = counts.pop(None, 0)
    return Outcome(len(rows), counts, unreadable, tuple(failed.slice(0, 10).to_pylist()))
