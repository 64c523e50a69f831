"""What a stranger's `.keras` file may hold: layers that compute, their numbers, nothing else."""

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from crackclf.errors import UserError

_MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
_MODULES = {
    *("keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints"),
    *("keras.losses", "keras.optimizers", "keras.metrics", "keras.src.models.functional"),
    *("keras.src.applications.convnext", "keras.src.ops.numpy", "keras.src.ops.nn"),
}
# Those that compute on images and features. Others read files, fetch addresses or call foreign
# code when they are built, and Keras' safe mode has let some of them pass: StringLookup
# (CVE-2025-12058), TFSMLayer (CVE-2026-1462).
_LAYERS = {
    *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"),
    *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"),
    *("BatchNormalization", "GroupNormalization", "LayerNormalization", "Normalization"),
    *("CenterCrop", "Cropping2D", "Rescaling", "Resizing", "UpSampling2D", "ZeroPadding2D"),
    *("Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"),
    *("Dense", "Flatten", "Identity", "InputLayer", "Permute", "Reshape"),
    *("Dropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"),
    *("RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation"),
    "RandomZoom",
}
# Far above what any model of images has, by the name of a layer's setting.
_MOST = {
    **dict.fromkeys(("units", "filters", "height", "width", "batch_shape"), 8192),
    **dict.fromkeys(("kernel_size", "pool_size", "dilation_rate", "padding", "cropping"), 64),
    **dict.fromkeys(("strides", "depth_multiplier"), 64),
    "size": 8,
}
_MOST_NUMBERS, _MOST_LAYERS = 2**28, 5_000
_SMALL, _GROWTH = 10**8, 64  # Numbers that any model may have; and how many for each stored one.
_ADVICE = "Load only models from someone you trust."


def check_keras_file(path: Path) -> None:
    """Refuses a `.keras` file that could do more, when loaded, than to compute.

    Keras' safe mode is not left either; this comes before it.

    Args:
        path: the file.

    Raises:
        UserError: when the file is damaged; holds other members than Keras writes, or more bytes
            than its own; names a layer or function that is not known to be harmless; asks for
            layers out of all proportion to its weights; or its weights lie elsewhere, or take
            more room than they have.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if sorted(names) != _MEMBERS:
                raise UserError(
                    f"expected {_MEMBERS} in it. Received: {str(names)[:99]}. {_ADVICE}"
                )
            # Keras compresses nothing, so that nothing can grow.
            if sum(member.file_size for member in members) > 2 * path.stat().st_size:
                raise UserError(f"would grow many times when unpacked (a zip bomb). {_ADVICE}")
            config = json.loads(archive.read("config.json"))
            _check_config(config)
            with archive.open("model.weights.h5") as file, h5py.File(file, "r") as weights:
                _check_size(config, _check_weights(weights))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # zipfile, json and h5py raise nearly anything on hostile bytes.
    except Exception as error:
        raise UserError(f"{path}: is not a whole .keras file ({error}).") from None


def check_weights_file(path: Path) -> None:
    """Refuses an HDF5 file of weights that are not in it, or take more room than they have.

    Args:
        path: the file, `.weights.h5` or `.h5`.

    Raises:
        UserError: in these cases, or when it is no HDF5 file.
    """
    try:
        with h5py.File(path, "r") as weights:
            _check_weights(weights)
    except OSError as error:
        raise UserError(f"is no whole HDF5 file ({error})") from None


def _check_config(config: Any) -> None:
    for item in _objects(config):
        _check_object(item)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    # Not by recursion: how deep it goes is the file's choice.
    left = [config]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.values()
            if "class_name" in item:
                yield item


def _check_object(item: dict[str, Any]) -> None:
    name, module, registered = (
        item.get(key) for key in ("class_name", "module", "registered_name")
    )
    if name == "__keras_tensor__" and module is None:
        return
    known = (
        (module in _MODULES or (module == "keras" and name in ("Sequential", "DTypePolicy")))
        and registered in (None, name)
        and (module != "keras.layers" or name in _LAYERS)
    )
    if not known or name == "function":
        raise UserError(
            f"holds {name!r} of {module!r}, which is not among the layers that crackclf knows to "
            f"be harmless. {_ADVICE}"
        )


def _check_size(config: Any, stored: int) -> None:
    """Refuses, before Keras builds anything, layers much larger than the weights that are there.

    Args:
        config: the model's.
        stored: how many numbers its weights have.
    """
    weights, widest, layers = 0, 3, 0
    for item in _objects(config):
        settings: Any = item.get("config")
        if not isinstance(settings, dict):
            continue
        if item["class_name"] == "__keras_tensor__":
            if math.prod(_numbers(settings.get("shape"))) > _MOST_NUMBERS:
                raise _too_large(f"a tensor of shape {settings['shape']}")
            continue
        if item.get("module") != "keras.layers":
            continue
        layers += 1
        for name, most in _MOST.items():
            if max(_numbers(settings.get(name)), default=0) > most:
                raise _too_large(f"{item['class_name']} with {name} {settings[name]}")
        width = max(_numbers([settings.get("units"), settings.get("filters")]), default=0)
        weights += width * math.prod(_numbers(settings.get("kernel_size")))
        widest = max(widest, width, *_numbers(settings.get("batch_shape")))
    if layers > _MOST_LAYERS or weights * widest > max(_SMALL, _GROWTH * stored):
        raise _too_large(f"{layers:,} layers of up to {widest:,} units, and {stored:,} weights")


def _too_large(what: str) -> UserError:
    return UserError(f"asks for {what}: more memory than a model of images takes. {_ADVICE}")


def _numbers(value: Any) -> list[int]:
    """All whole numbers in nested lists."""
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


def _check_weights(file: h5py.File) -> int:
    """Refuses weights that lie elsewhere or grow; counts their numbers."""
    left: list[h5py.Group] = [file]
    seen, stored = set(), 0
    while left:
        group = left.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"its weights {group.name}/{name} lie in another place. {_ADVICE}")
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr  # pyright: ignore[reportAttributeAccessIssue]
            if place in seen:  # Hard links may lead round in a circle.
                continue
            seen.add(place)
            if isinstance(item, h5py.Group):
                left.append(item)
            elif (
                not isinstance(item, h5py.Dataset)
                or item.external
                or item.is_virtual
                or item.nbytes > item.id.get_storage_size()
            ):
                raise UserError(
                    f"its weights {item.name} lie in another file or take more room than they "
                    f"have. {_ADVICE}"
                )
            else:
                stored += item.size or 0
    return stored
