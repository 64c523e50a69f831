"""Tells cracked concrete from sound concrete by Keras transfer learning.

The names a notebook needs are here; each is loaded when first used, so that importing the
package does not import TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crackclf.data.datasets import Datasets, load_datasets
    from crackclf.data.download import download_metu
    from crackclf.data.images import read_image
    from crackclf.data.sample import write_photos, write_sample
    from crackclf.errors import UserError
    from crackclf.evaluation.curves import diagnose, read_curves
    from crackclf.evaluation.explanation import explain
    from crackclf.evaluation.metrics import Report, evaluate
    from crackclf.inference.batch import inspect_photos
    from crackclf.inference.inspection import Inspection, inspect_photo
    from crackclf.inference.overlay import draw_overlay
    from crackclf.inference.predict import Prediction, predict
    from crackclf.models.augmentation import build_augmentation
    from crackclf.models.classifier import build_model
    from crackclf.models.ensemble import build_ensemble
    from crackclf.models.saving import Classifier, load_model, save_model
    from crackclf.training.callbacks import build_callbacks
    from crackclf.training.comparison import compare
    from crackclf.training.fit import fine_tune, train
    from crackclf.training.pipeline import save_run

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "models.saving",
    "Datasets": "data.datasets",
    "Inspection": "inference.inspection",
    "Prediction": "inference.predict",
    "Report": "evaluation.metrics",
    "UserError": "errors",
    "build_augmentation": "models.augmentation",
    "build_callbacks": "training.callbacks",
    "build_ensemble": "models.ensemble",
    "build_model": "models.classifier",
    "compare": "training.comparison",
    "diagnose": "evaluation.curves",
    "download_metu": "data.download",
    "draw_overlay": "inference.overlay",
    "evaluate": "evaluation.metrics",
    "explain": "evaluation.explanation",
    "fine_tune": "training.fit",
    "inspect_photo": "inference.inspection",
    "inspect_photos": "inference.batch",
    "load_datasets": "data.datasets",
    "load_model": "models.saving",
    "predict": "inference.predict",
    "read_curves": "evaluation.curves",
    "read_image": "data.images",
    "save_model": "models.saving",
    "save_run": "training.pipeline",
    "train": "training.fit",
    "write_photos": "data.sample",
    "write_sample": "data.sample",
}

__all__ = [
    "Classifier",
    "Datasets",
    "Inspection",
    "Prediction",
    "Report",
    "UserError",
    "build_augmentation",
    "build_callbacks",
    "build_ensemble",
    "build_model",
    "compare",
    "diagnose",
    "download_metu",
    "draw_overlay",
    "evaluate",
    "explain",
    "fine_tune",
    "inspect_photo",
    "inspect_photos",
    "load_datasets",
    "load_model",
    "predict",
    "read_curves",
    "read_image",
    "save_model",
    "save_run",
    "train",
    "write_photos",
    "write_sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
