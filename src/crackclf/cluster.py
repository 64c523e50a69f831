"""Images predicted or inspected on a Ray cluster, into a folder of Parquet files."""

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from crackclf.calibration import choose_region_threshold
from crackclf.errors import UserError, need, show
from crackclf.files import user_path
from crackclf.images import FORMATS, naming
from crackclf.listing import Picture, find_images
from crackclf.photos.photo import inspect_picture
from crackclf.photos.records import COLUMNS, Scale, to_row
from crackclf.prediction import Classifier, as_classifier, predict

pyarrow, fs = need("pyarrow", "cluster"), need("pyarrow.fs", "cluster")
parquet = need("pyarrow.parquet", "cluster")

_TEXT = ("file", "verdict", "taken", "camera", "error", "regions_json", "cracks_json")
_WHOLE = ("cracks", "regions", "width", "height")
_PREDICTED = {"file": "string", "label": "string", "probability": "double", "error": "string"}
_INSPECTED = {
    name: "string" if name in _TEXT else "int64" if name in _WHOLE else "double"
    for name in (*COLUMNS, "regions_json", "cracks_json")
}


def answer_images(
    paths: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    model: Classifier | str | os.PathLike = "shipped",
    inspect: bool = False,
    mm_per_pixel: float | None = None,
    address: str | None = None,
) -> dict[str, int]:
    """Predicts or inspects images on a Ray cluster and writes a row of Parquet for each.

    Paths and the new folder `out` are places that all machines see, or URIs of an object store
    (`s3://`, `gs://`) or another file system of pyarrow. Without `address`, HOST:PORT, it runs on
    all cores of this machine, or on the cluster that this process is connected to. Returns the
    number of images by label or verdict; under `""` that of images that cannot be read.
    """
    Scale(mm_per_pixel)  # Refuses a wrong one at once.
    classifier, answer = as_classifier(model), "verdict" if inspect else "label"
    threshold = choose_region_threshold(classifier.card.sound_peaks) if inspect else None
    store, folder = _open(str(out))
    if store.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        raise UserError(f"{show(out)}: holds files already. Name another folder.")
    stores, images = _list_images(paths)
    batch = 1 if inspect else 64  # Photos are large.
    blocks = min(-(-len(images) // batch), 2000)  # Each becomes a file.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not (address or os.environ.get("RAY_ADDRESS")):
        # Without a cluster, Ray listens on 127.0.0.1 only. It reads this when it is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray, data = need("ray", "cluster"), need("ray.data", "cluster")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        data.from_items(images, override_num_blocks=blocks).map_batches(
            _Worker,
            fn_constructor_args=(classifier, stores, threshold, mm_per_pixel),
            batch_size=batch,
            batch_format="pyarrow",
            concurrency=max(1, min(int(ray.cluster_resources().get("CPU", 1)), blocks)),
            num_cpus=1,
        ).write_parquet(folder, filesystem=store, ray_remote_args={"num_cpus": 0})
    except (Exception, SystemExit) as error:  # Ray raises both where no cluster answers.
        raise UserError(f"Ray failed: {error}") from error
    found = parquet.read_table(folder, filesystem=store, columns=[answer])[answer]
    if len(found) != len(images):
        expected = f"{len(images)} rows, in a folder that all machines see"
        raise UserError(f"{show(out)}: expected {expected}. Received: {len(found)}.")
    return {x["values"] or "": x["counts"] for x in found.value_counts().to_pylist()}


@dataclass
class _Worker:
    """A process of the cluster: makes rows of answers from rows of files."""

    classifier: Classifier
    stores: list[Any]
    threshold: float | None
    mm_per_pixel: float | None

    def __call__(self, images: Any) -> Any:
        with ThreadPoolExecutor(4) as pool:  # Stores take long to answer.
            rows = list(pool.map(self._answer, images.to_pylist()))
        columns = _PREDICTED if self.threshold is None else _INSPECTED
        return pyarrow.Table.from_pylist(rows, pyarrow.schema(columns.items()))

    def _answer(self, image: dict[str, Any]) -> dict[str, Any]:
        name, store = image["file"], self.stores[image["store"]]
        try:
            with naming(name), store.open_input_file(image["path"]) as file:
                picture = Picture(name, file.read())
            if self.threshold is None:
                [found] = predict(picture.read(), self.classifier)
                return vars(found) | {"file": name}
            photo, _ = inspect_picture(picture, self.classifier, self.threshold)
        except UserError as error:
            return {"file": name, "error": str(error)}
        record = photo.to_dict(self.mm_per_pixel)
        shapes = {f"{name}_json": json.dumps(record[name]) for name in ("regions", "cracks")}
        return to_row(record) | shapes


def _list_images(paths: Sequence[str | os.PathLike]) -> tuple[list[Any], list[dict]]:
    """The file systems of images, and for each image its name, path and number of file system."""
    stores, rows = [], []
    for path in map(str, paths):
        store, root = _open(path)
        if "://" not in path:
            files = {show(file): os.fsencode(file.absolute()) for file in find_images([path])}
        else:
            found = [store.get_file_info(root)]
            if found[0].type == fs.FileType.Directory:
                found = store.get_file_info(fs.FileSelector(root, recursive=True))
            # The rest of a URI may hold a key to the store, so it is not written down.
            scheme = path.partition("://")[0]
            names = sorted(x.path for x in found if f".{x.extension.lower()}" in FORMATS)
            files = {f"{scheme}://{name}": name.encode() for name in names}
        rows += [{"file": x, "path": files[x], "store": len(stores)} for x in files]
        stores.append(store)
    if not rows:
        raise UserError(f"no image found. Expected files ending in {', '.join(FORMATS)}.")
    return stores, rows


def _open(path: str) -> tuple[Any, str]:
    """The file system of a path or URI, and the path in it."""
    if "://" not in path:
        return fs.LocalFileSystem(), str(user_path(path).absolute())
    try:
        return fs.FileSystem.from_uri(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be opened ({error}).") from None
