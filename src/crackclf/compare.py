"""Several backbones trained on the same images."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.stats import binomtest

from crackclf.backbones import BACKBONES, MissingWeightsError
from crackclf.data import load_datasets
from crackclf.errors import UserError, notice
from crackclf.files import user_path, write_whole
from crackclf.pipeline import train_folder
from crackclf.prediction import load_model
from crackclf.saving import KERAS_FILE, load_keras_model
from crackclf.settings import TrainSettings

_TIMED_BATCH, _TIMED_SECONDS = 32, 2.0
_OF_TEST = ("accuracy", "accuracy_interval", "balanced_accuracy", "loss", "auroc", "n", "caution")
_TABLE = ("backbone", "accuracy", "accuracy_interval", "balanced_accuracy", "loss", "auroc")
_TABLE += ("parameters", "megabytes", "seconds", "images_per_second")
_PAIR = ("first", "second", "only_first", "only_second", "p_value")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a row for each backbone, in the order asked for. Printed, a table.

    "wrong" names the test images on which a backbone is wrong, "megabytes" is the size of its
    `model.keras`, and "seconds" the time of loading, training and testing, None if not known.
    `missing` says why a backbone could not be trained.
    """

    rows: tuple[dict[str, Any], ...]
    missing: dict[str, str]

    @property
    def pairs(self) -> tuple[dict[str, Any], ...]:
        """McNemar's exact test of each two backbones (McNemar 1947, Psychometrika 12:153).

        "only_first" is the number of test images on which only the first is right.
        """
        pairs = []
        for a, b in combinations(self.rows, 2):
            only_a, only_b = len({*b["wrong"]} - {*a["wrong"]}), len({*a["wrong"]} - {*b["wrong"]})
            p = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
            values = a["backbone"], b["backbone"], only_a, only_b, float(p)
            pairs.append(dict(zip(_PAIR, values, strict=True)))
        return tuple(pairs)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a dictionary for JSON."""
        return {"rows": [*self.rows], "pairs": [*self.pairs], "missing": self.missing}

    def __str__(self) -> str:
        cells = [[x.replace("_", " ") for x in _TABLE]]
        cells += [[_format(row[x]) for x in _TABLE] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in cells]
        for x in self.pairs:
            lines.append(
                f"{x['first']} alone right on {x['only_first']}, {x['second']} alone on "
                f"{x['only_second']} of {self.rows[0]['n']}: McNemar's exact p = {x['p_value']:.3g}"
            )
        lines += [f"{x['backbone']}: {x['caution']}" for x in self.rows if x.get("caution")]
        lines += [f"{name}: missing. {why}" for name, why in self.missing.items()]
        return "\n".join(lines)


def _format(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_format, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{'' if value is None else value}"


def compare(
    directory: str | os.PathLike,
    backbones: Sequence[str],
    out: str | os.PathLike = "saved_models/comparison",
    log_dir: str | os.PathLike = "logs",
    **settings: Any,
) -> Comparison:
    """Trains a classifier with each of several backbones, on the same split.

    The model of each backbone goes to the folder OUT-BACKBONE, the figures to OUT. The
    same call after an interruption goes on with the backbones that are not done.

    Args:
        directory: a folder with one sub-folder of images per class, or one that already holds
            `train/`, `validation/` and `test/`.
        backbones: keys of `BACKBONES`.
        out: the folder for the figures. The names of the model folders begin with it.
        log_dir: the folder that holds a folder of curves for each run.
        settings: fields of `TrainSettings`, e.g. `epochs=20`, the same for all.

    Returns:
        A `Comparison`. Its `missing` names the backbones without weights.

    Raises:
        UserError: when an argument or the data cannot be used, a folder OUT-BACKBONE holds a model
            with other settings or of other images, or no backbone could be trained.

    Examples:
        >>> print(compare("data/metu", ["vgg16", "resnet50"], batch_size=100))
    """
    names = list(dict.fromkeys(str(name).lower() for name in backbones))
    if not names or not set(names) <= set(BACKBONES):
        known = ", ".join(BACKBONES)
        raise UserError(f"backbones must be among {known}. Received: {list(backbones)}.")
    common = TrainSettings(**settings)
    if common.folds:
        raise UserError("a comparison is on one split. Leave out folds.")
    out = user_path(out)
    figures = out / "comparison.json"
    earlier = json.loads(figures.read_text())["rows"] if figures.exists() else []
    seconds = {row["backbone"]: row["seconds"] for row in earlier}
    comparison = Comparison((), {})
    for name in names:
        folder, chosen = Path(f"{out}-{name}"), replace(common, backbone=name)
        notice(f"{name}: {folder}")
        try:
            if folder.exists():
                _check_model(folder, chosen, directory)
            else:
                start = time.perf_counter()
                train_folder(directory, folder, log_dir, **chosen.to_dict())
                seconds[name] = time.perf_counter() - start
            row = _measure(folder) | {"seconds": seconds.get(name)}
            comparison = replace(comparison, rows=(*comparison.rows, row))
        except MissingWeightsError as error:
            notice(str(error))
            comparison.missing[name] = str(error)
        keras.utils.clear_session()  # Else the models of all backbones stay in memory.
        write_whole(figures, json.dumps(comparison.to_dict(), indent=2) + "\n")
    if not comparison.rows:
        raise UserError("\n".join(comparison.missing.values()))
    return comparison


def _check_model(folder: Path, settings: TrainSettings, directory: str | os.PathLike) -> None:
    data = load_datasets(directory, **settings.arguments_of(load_datasets))
    is_same = TrainSettings.read(folder / "settings.json") == settings
    if not is_same or load_model(folder).card.data_fingerprint != data.fingerprint:
        found = f"holds a model of other {'images' if is_same else 'settings: see settings.json'}"
        raise UserError(f"{folder}: {found}. Choose another --out, or move the folder away.")


def _measure(folder: Path) -> dict[str, Any]:
    classifier = load_model(folder)
    card, test = classifier.card, classifier.card.metrics["test"]
    shape = (_TIMED_BATCH, card.image_size, card.image_size, 3)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    classifier.probabilities(images)  # The first call makes the interpreters ready.
    start, batches = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < _TIMED_SECONDS:
        classifier.probabilities(images)
        batches += 1
    return {
        "backbone": card.backbone,
        "weights_origin": card.weights_origin,
        **{name: test.get(name) for name in _OF_TEST},
        "wrong": [image["file"] for image in test["misclassified"]],
        "parameters": load_keras_model(folder).count_params(),
        "megabytes": (folder / KERAS_FILE).stat().st_size / 1e6,
        "images_per_second": batches * _TIMED_BATCH / seconds,
    }
