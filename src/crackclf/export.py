"""A saved model exported to one file for another runtime, and checked there."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from crackclf import __version__
from crackclf.errors import UserError, need
from crackclf.files import user_path, writing
from crackclf.prediction import load_model, predict
from crackclf.saving import load_keras_model, open_model
from drawn_concrete.make import make_patch

# Suffix of the file, Keras' name of the format, and the packages that it needs.
FORMATS = {
    "onnx": (".onnx", "onnx", ("onnx", "tf2onnx", "onnxruntime")),
    "litert": (".tflite", "litert", ()),
}
_SAME = 1e-3  # Probabilities that differ by no more are the same.
_COUNT, _SIDES = 3, (48, 96)  # Drawn patches of the check, of each of these sizes.


@dataclass(frozen=True)
class Export:
    """An exported file, its size in bytes, and what its check on some images found."""

    path: Path
    size: int
    images: int
    max_difference: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.size / 1e6:.2f} MB. Its probabilities on {self.images} images "
            f"differ from the saved model's by at most {self.max_difference:.2g}."
        )


def export_model(model: str | os.PathLike, path: str | os.PathLike, format: str) -> Export:
    """Writes a saved model in another format and runs it in that format's own runtime.

    The file takes `image`, uint8 RGB of shape (batch, height, width, 3) and any size. It returns
    `probabilities`, float32 of shape (batch, classes), calibrated: resizing, preprocessing and
    temperature are inside, augmentation is not. Class names and threshold are in NAME.json.

    Args:
        model: the folder of a saved model, or the word `shipped`.
        path: file to write, with the suffix of its format; must not exist.
        format: `"onnx"` (.onnx) or `"litert"` (.tflite).

    Returns:
        An `Export`: `path`, `size` in bytes, and the `max_difference` of probabilities on `images`.

    Raises:
        UserError: when the model or a package is missing, the file exists or cannot be written, or
            it gives other probabilities than the model. No file is left then.

    Examples:
        >>> print(export_model("shipped", "crack.onnx", "onnx"))
    """
    path = user_path(path)
    if format not in FORMATS:
        raise UserError(f"expected one of the formats {', '.join(FORMATS)}. Received: {format}.")
    suffix, keras_format, packages = FORMATS[format]
    if not path.name.endswith(suffix):
        raise UserError(f"{path}: expected a name ending in {suffix} for {format}.")
    name = path.name.removesuffix(suffix)
    beside = path.with_name(f"{name}.json")
    about: dict[str, Any] = {"file": path.name}
    # A kill between the last renames leaves the JSON alone, which names the file.
    start = json.dumps(about | {"class_names": []}, indent=2).removesuffix("]\n}")
    is_left = beside.is_file() and beside.read_text(errors="replace").startswith(start)
    for file in (path,) if is_left else (path, beside):
        if os.path.lexists(file):
            raise UserError(f"{file}: already exists, and crackclf overwrites nothing.")
    for package in packages:
        need(package, "export")
    classifier, serving = load_model(model), _build_serving(model)
    card, difference, rng = classifier.card, 0.0, np.random.default_rng(0)
    about |= {x: getattr(card, x) for x in ("class_names", "positive_class", "threshold")}
    about |= {"written_by": f"crackclf {__version__}", "model_sha256": card.fingerprint}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".crackclf-", dir=path.parent) as folder:
        file = Path(folder, path.name)
        try:
            serving.export(str(file), format=keras_format, verbose=False)
            for side in _SIDES:  # They are cut to see that height and width are told apart.
                patches = [make_patch(rng, number > 0, side)[0][9:] for number in range(_COUNT)]
                expected = [x.probabilities for x in predict(patches, classifier)]
                found = _run(format, str(file), np.stack(patches))
                difference = max(difference, float(np.abs(found - np.array(expected)).max()))
        except Exception as error:  # Each converter and runtime has errors of its own.
            raise UserError(f"{path}: cannot be exported as {format} ({error}).") from error
        if not difference <= _SAME:  # Also true of NaN.
            raise UserError(
                f"{path}: removed, because its probabilities are not the model's. Expected a "
                f"difference of at most {_SAME}. Received: {difference:.2g}."
            )
        Path(folder, f"{name}.json").write_text(json.dumps(about, indent=2) + "\n")
        size = sum(part.stat().st_size for part in Path(folder).iterdir())
        # The JSON comes first: where the file is, it is.
        for part in sorted(Path(folder).iterdir(), key=lambda x: x == file):
            with writing(path.with_name(part.name)) as draft:
                part.rename(draft)
    return Export(path, size, _COUNT * len(_SIDES), difference)


def _build_serving(folder: str | os.PathLike) -> Any:
    """The Keras model of a folder, from pixels of any size to calibrated probabilities."""
    model, card, ops = load_keras_model(folder), open_model(folder)[0], keras.ops
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    # Bilinear without antialiasing, as images are resized for training.
    resized = keras.layers.Resizing(card.image_size, card.image_size)(ops.cast(image, "float32"))
    logits = ops.log(ops.clip(model(resized, training=False), 1e-7, 1.0))
    serving: Any = keras.Model(image, {"probabilities": ops.softmax(logits / card.temperature)})
    serving(np.zeros((1, 9, 9, 3), np.uint8))  # Keras refuses ONNX of a model never called.
    return serving


def _run(format: str, file: str, image: np.ndarray) -> np.ndarray:
    """Probabilities of images from an exported file, by the runtime that it is meant for."""
    if format == "onnx":
        session = need("onnxruntime", "export").InferenceSession(file)
        return session.run(["probabilities"], {"image": image})[0]
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(file).get_signature_runner()(image=image)["probabilities"]
