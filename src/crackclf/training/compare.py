"""Several backbones trained on the same images, each in a process of its own."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.errors import UserError, notice
from crackclf.evaluation.comparison import Comparison, Entry, compare_entries
from crackclf.extras import RESNET18, torch_room
from crackclf.files import user_path, write_whole
from crackclf.models.weights import MissingWeightsError
from crackclf.prediction.classifier import Classifier, load_model
from crackclf.saved.card import TORCH_FILE
from crackclf.saved.store import load_keras_model, open_model
from crackclf.training.settings import TrainSettings, differences

_TIMED_BATCH, _TIMED_SECONDS = 32, 3.0
_REFUSED, _MISSING = 2, 3  # Exit statuses of a training in its process.


def compare(
    directory: str | os.PathLike,
    backbones: Sequence[str],
    out: str | os.PathLike = "saved_models/comparison",
    log_dir: str | os.PathLike = "logs",
    **settings: Any,
) -> Comparison:
    """Trains a classifier with each of several backbones, on the same split.

    Each backbone is trained in a process of its own, so that its memory can be measured. Its model
    goes to the folder OUT-BACKBONE. Figures and plot go to OUT. The same call after an
    interruption goes on with the backbones that are not done.

    Args:
        directory: a folder with one sub-folder of images per class, or one that already holds
            `train/`, `validation/` and `test/`.
        backbones: keys of `BACKBONES`, or `"resnet18-torch"`.
        out: the folder for the figures. The names of the model folders begin with it.
        log_dir: the folder that holds a folder of curves for each run.
        settings: fields of `TrainSettings`, e.g. `epochs=20`, the same for all.

    Returns:
        A `Comparison`. Its `missing` names the backbones without weights.

    Raises:
        UserError: when an argument or the data cannot be used, or no backbone could be trained.

    Example:

    ```python
    print(compare("data/metu", ["vgg16", "resnet50"], batch_size=100))
    ```
    """
    from crackclf.evaluation.plots import plot_accuracy_cost
    from crackclf.models.backbones import BACKBONES

    known, names = [*BACKBONES, RESNET18], [str(name).lower() for name in backbones]
    if not names or not set(known).issuperset(names):
        raise UserError(f"backbones must be among {', '.join(known)}. Received: {list(backbones)}.")
    if RESNET18 in names:
        torch_room()  # Which says how to install it, before hours pass.
    chosen = TrainSettings(**settings).to_dict()
    if chosen["folds"]:
        raise UserError("a comparison is on one split. Leave out folds.")
    del chosen["backbone"]
    out, directory = user_path(out), str(user_path(directory).resolve())
    _check_settings(out, {"directory": directory} | chosen)
    entries, missing = [], {}
    for backbone in dict.fromkeys(names):
        notice(f"{backbone}: {out}-{backbone}")
        try:
            entries.append(_train_apart(directory, out, backbone, str(log_dir), chosen))
        except MissingWeightsError as error:
            missing[backbone] = str(error)
            notice(str(error))
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
    if differing := differences(earlier, said):
        raise UserError(
            f"{out}: holds a comparison with other settings: {differing}. Choose another --out."
        )


def _train_apart(
    directory: str, out: Path, backbone: str, log_dir: str, settings: dict[str, Any]
) -> Entry:
    """Trains one backbone in a process of its own, or reads what an earlier run left of it."""
    path, failure = out / f"{backbone}.json", out / f"{backbone}.error"
    if not path.exists():
        request = json.dumps([directory, str(out), backbone, log_dir, settings])
        code = "from crackclf.quiet import import_tensorflow; import_tensorflow(); "
        code += f"from {__name__} import train_one; train_one()"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, input=request, text=True, check=False)
        if done.returncode in (_REFUSED, _MISSING) and failure.exists():
            message = failure.read_text(encoding="utf-8")
            failure.unlink()
            raise (UserError if done.returncode == _REFUSED else MissingWeightsError)(message)
        if not path.exists():
            raise UserError(
                f"{backbone}: its process ended with status {done.returncode}"
                f"{', killed, most likely for want of memory' if done.returncode < 0 else ''}. "
                "Run the same command again to go on."
            )
    return _read_entry(path)


def train_one() -> None:
    """What the process of one backbone does: its request comes as JSON on standard input."""
    directory, out, backbone, log_dir, settings = json.load(sys.stdin)
    try:
        entry = _train(directory, Path(out), backbone, log_dir, settings)
    except UserError as error:
        write_whole(Path(out) / f"{backbone}.error", str(error))
        sys.exit(_MISSING if isinstance(error, MissingWeightsError) else _REFUSED)
    content = json.dumps(dataclasses.asdict(entry), indent=2) + "\n"
    write_whole(Path(out) / f"{backbone}.json", content)


def _train(
    directory: str, out: Path, backbone: str, log_dir: str, settings: dict[str, Any]
) -> Entry:
    from crackclf.training.run import train_folder

    folder = Path(f"{out}-{backbone}")
    start, seconds = time.perf_counter(), None
    if not folder.exists():
        train_folder(directory, folder, log_dir, backbone=backbone, **settings)
        seconds = time.perf_counter() - start
    classifier, (_, files) = load_model(folder), open_model(folder)
    test = classifier.card.metrics["test"]
    if TORCH_FILE in files:
        model: Any = torch_room().load_resnet18(files[TORCH_FILE])
    else:
        model = load_keras_model(folder)
    return Entry(
        backbone,
        classifier.card.weights_origin,
        classifier.card.data_fingerprint,
        test["accuracy"],
        tuple(test["accuracy_interval"]),
        test["balanced_accuracy"],
        test["average_precision"],
        test["loss"],
        test["auroc"],
        test["n"],
        tuple(image["file"] for image in test["misclassified"]),
        model.count_params(),
        next(iter(files.values())).stat().st_size / 1e6,
        seconds,
        _time_prediction(classifier),
        peak_mb(),
    )


def _read_entry(path: Path) -> Entry:
    fields = json.loads(path.read_text())
    fields["accuracy_interval"] = tuple(fields["accuracy_interval"])
    return Entry(**fields | {"wrong": tuple(fields["wrong"])})


def _time_prediction(classifier: Classifier) -> float:
    size = classifier.card.image_size
    images = np.random.default_rng(0).uniform(0, 255, (_TIMED_BATCH, size, size, 3)).astype("f")
    classifier.probabilities(images)  # The first call makes the interpreters ready.
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < _TIMED_SECONDS:
        classifier.probabilities(images)
        batches += 1
    return batches * _TIMED_BATCH / (time.perf_counter() - start)


def peak_mb() -> float | None:
    """The most memory this process has held, in MiB; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux' getrusage also counts what the parent held at the start.
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # macOS counts bytes.
