"""Several backbones trained on the same images, each in a process of its own."""

import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crackclf.data.files import write_whole
from crackclf.errors import UserError, notice
from crackclf.evaluation.comparison import Comparison, Entry, compare_entries
from crackclf.models.backbones import BACKBONES, RESNET18

if TYPE_CHECKING:
    from crackclf.models.saving import Classifier

_TIMED_BATCH, _TIMED_SECONDS = 32, 3.0


def compare(
    directory: str | os.PathLike,
    backbones: Sequence[str],
    out: str | os.PathLike = "saved_models/comparison",
    log_dir: str | os.PathLike = "logs",
    **settings: Any,
) -> Comparison:
    """Trains a classifier on each of several backbones, on the same split and for as many epochs.

    Each runs in a process of its own, so that one's memory does not count as the next one's, and
    is saved as the model folder OUT-BACKBONE, its curves in a folder of `log_dir`. Figures and
    plot go to OUT. Started again with the same settings it goes on with the backbones that are
    not done.

    A script that calls this must do so under `if __name__ == "__main__":`.

    Args:
        directory: see `load_datasets`.
        backbones: keys of `crackclf.models.backbones.BACKBONES`, or `"resnet18-torch"`.
        out: the folder for the figures, and how the model folders' names begin.
        log_dir: the folder that holds a folder of curves for each run.
        settings: further arguments of `train_folder`, the same for all.

    Returns:
        A `Comparison`; a backbone whose weights cannot be had is in its `missing`.

    Raises:
        UserError: when an argument or the data cannot be used, or no backbone could be trained.

    Example:

    ```python
    print(compare("data/metu", ["vgg16", "resnet50"], batch_size=100))
    ```
    """
    from crackclf.evaluation.plots import plot_accuracy_cost
    from crackclf.models.bases import MissingWeightsError

    known = [*BACKBONES, RESNET18]
    if not backbones or not set(known).issuperset(backbones):
        raise UserError(f"backbones must be among {', '.join(known)}. Received: {list(backbones)}.")
    if RESNET18 in backbones:
        import_module("crackclf.models.pytorch")  # Which says how to install it, before hours pass.
    out = Path(out)
    _check_settings(out, {"directory": str(Path(directory).resolve())} | settings)
    entries, missing = [], {}
    for backbone in dict.fromkeys(backbones):
        notice(f"{backbone}: {out}-{backbone}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            work = pool.submit(_train, directory, out, backbone, settings, log_dir)
            try:
                entries.append(work.result())
            except MissingWeightsError as error:
                missing[backbone] = str(error)
                notice(str(error))
            except BrokenProcessPool:
                raise UserError(
                    f"{backbone}: its process was killed, most likely for want of memory. Started "
                    "again with the same arguments, the comparison goes on where it was."
                ) from None
    if not entries:
        raise UserError("\n".join(missing.values()))
    if len({entry.data_fingerprint for entry in entries}) > 1:
        raise UserError(
            f"{directory}: has changed since some of {', '.join(e.backbone for e in entries)} were "
            f"trained, so they were tested on different images. Choose another --out than {out}."
        )
    comparison = compare_entries(entries, missing)
    figure = plot_accuracy_cost(
        [entry.backbone for entry in entries],
        [entry.accuracy for entry in entries],
        [entry.accuracy_interval for entry in entries],
        [entry.images_per_second for entry in entries],
    )
    figure.savefig(out / "accuracy_cost.png", dpi=120)
    write_whole(out / "comparison.json", json.dumps(comparison.to_dict(), indent=2) + "\n")
    return comparison


def _check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Lets nothing be compared that was trained in different ways."""
    said = json.loads(json.dumps(settings, default=str))
    path = out / "settings.json"
    if not out.exists():
        out.mkdir(parents=True)
        write_whole(path, json.dumps(said, indent=2) + "\n")
    try:
        earlier = json.loads(path.read_text())
    except (OSError, ValueError):
        raise UserError(f"{out}: exists and is no comparison. Choose another --out.") from None
    if earlier != said:
        raise UserError(
            f"{out}: holds a comparison with other settings ({path}). Choose another --out."
        )


def _train(
    directory: str | os.PathLike,
    out: Path,
    backbone: str,
    settings: dict[str, Any],
    log_dir: str | os.PathLike,
) -> Entry:
    """Trains one backbone, or reads what an earlier run left of it."""
    from crackclf.models.saving import load_model
    from crackclf.training.pipeline import train_folder

    path, folder = out / f"{backbone}.json", Path(f"{out}-{backbone}")
    if path.exists():
        return _read_entry(path)
    start, seconds = time.perf_counter(), None
    if not folder.exists():
        train_folder(directory, folder, backbone=backbone, log_dir=log_dir, **settings)
        seconds = time.perf_counter() - start
    classifier = load_model(folder)
    test = classifier.card.metrics["test"]
    entry = Entry(
        backbone,
        classifier.card.weights_origin,
        classifier.card.data_fingerprint,
        test["accuracy"],
        tuple(test["accuracy_interval"]),
        test["loss"],
        test["auroc"],
        test["n"],
        tuple(image["file"] for image in test["misclassified"]),
        classifier.model.count_params(),
        next(folder.glob("model.*")).stat().st_size / 1e6,
        seconds,
        _time_prediction(classifier),
        peak_mb(),
    )
    write_whole(path, json.dumps(dataclasses.asdict(entry), indent=2) + "\n")
    return entry


def _read_entry(path: Path) -> Entry:
    fields = json.loads(path.read_text())
    fields["accuracy_interval"] = tuple(fields["accuracy_interval"])
    return Entry(**fields | {"wrong": tuple(fields["wrong"])})


def _time_prediction(classifier: "Classifier") -> float:
    size, model = classifier.card.image_size, classifier.model
    images = np.random.default_rng(0).uniform(0, 255, (_TIMED_BATCH, size, size, 3))
    model.predict_on_batch(images)  # The first call builds the graph.
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < _TIMED_SECONDS:
        model.predict_on_batch(images)
        batches += 1
    return batches * _TIMED_BATCH / (time.perf_counter() - start)


def peak_mb() -> float | None:
    """The most memory that this process has held so far, in MiB; None where nobody knows."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux' getrusage also counts what the parent held at the start.
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # macOS counts bytes.
