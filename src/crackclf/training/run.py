"""From a folder of images to a trained, evaluated and saved model."""

import os
from itertools import count
from pathlib import Path
from typing import Any

from crackclf.data.folders import find_positive
from crackclf.data.loading import load_datasets
from crackclf.errors import UserError, notice
from crackclf.evaluation.report import Report
from crackclf.features.extract import Mapper, compute_here
from crackclf.files import check_new_folder, user_path
from crackclf.prediction.classifier import Classifier
from crackclf.training.folds import cross_validate
from crackclf.training.logs import Run
from crackclf.training.saving import save_run
from crackclf.training.settings import TrainSettings
from crackclf.training.stages import build, fit, measure


def train_folder(
    directory: str | os.PathLike,
    out: str | os.PathLike | None = None,
    log_dir: str | os.PathLike = "logs",
    mapper: Mapper = compute_here,
    **settings: Any,
) -> tuple[Path, Classifier, Report]:
    """Trains a model on a folder of images: loads, trains, calibrates, tests and saves.

    Curves and checkpoints go to the folder `LOG_DIR/NAME`, with the name of the model folder. The
    same call after an interruption goes on from the last full epoch.

    Args:
        directory: a folder with one sub-folder of images per class, or one that already holds
            `train/`, `validation/` and `test/`.
        out: the model folder to make. None for `saved_models/BACKBONE-N` with the first free N.
        log_dir: the folder that holds a folder for each run.
        mapper: function that computes the features to cache. The default uses all cores of this
            machine.
        settings: fields of `TrainSettings`, e.g. `epochs=20`.

    Returns:
        The model folder, the saved `Classifier`, and the `Report` on the test set. With `folds`
        it is a `FoldReport`, in which each image is tested once.

    Raises:
        UserError: when an argument or the data cannot be used.

    Example:

    ```python
    folder, classifier, report = train_folder("data/metu", epochs=20)
    ```
    """
    chosen = TrainSettings(**settings)
    if mapper is not compute_here and not chosen.caches:
        raise UserError(
            "a cluster only computes cached features, and this training caches none. Leave out "
            "--engine ray."
        )
    directory = user_path(directory)
    run, out = _place(directory, out, user_path(log_dir), chosen)
    if run.check():
        notice(f"going on with the interrupted run in {run.folder}")
    if chosen.folds:
        return cross_validate(directory, out, run, mapper, chosen)

    data = load_datasets(
        directory,
        chosen.image_size,
        chosen.batch_size,
        chosen.validation_split,
        chosen.test_split,
        chosen.seed,
        chosen.group_by,
        chosen.skip_unreadable,
    )
    positive = find_positive(data.class_names, chosen.positive)
    for subset, counts in data.counts.items():
        notice(f"{subset}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    model = build(chosen, len(data.class_names))
    with run.going({"images": data.fingerprint, "base weights": model.weights_origin}):
        fit(model, data, run.folder, chosen, mapper)
        report, said = measure(model, data, positive, chosen)
        classifier = save_run(model, out, data, report, said["test"], run.folder, chosen)
    return out, classifier, report


def _place(
    directory: str | os.PathLike,
    out: str | os.PathLike | None,
    log_dir: Path,
    chosen: TrainSettings,
) -> tuple[Run, Path]:
    """The run and the model folder: the ones named, or the first that are free."""
    arguments = {"directory": str(Path(directory).resolve()), **chosen.to_dict()}
    del arguments["threshold_for"]  # It decides nothing of the training, and may be changed after.
    if out is not None:
        out = check_new_folder(out)
        return Run.named(log_dir, arguments | {"out": str(out.resolve())}), out
    for number in count(1):
        out = Path("saved_models") / f"{chosen.backbone}-{number}"
        run = Run.named(log_dir, arguments | {"out": str(out.resolve())})
        if not out.exists() and run.is_free:
            return run, out
    raise AssertionError
