"""What a stranger's `.keras` file may hold: layers that compute, their numbers, nothing else."""

import json
import zipfile
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
_ADVICE = "Load only models from someone you trust."


def check_keras_file(path: Path) -> None:
    """Refuses a `.keras` file that could do more, when loaded, than to compute.

    Keras' safe mode is not left either; this comes before it.

    Args:
        path: the file.

    Raises:
        UserError: when the file is damaged; holds other members than Keras writes, or more bytes
            than its own; names a layer or function that is not known to be harmless; or its
            weights lie elsewhere, or take more room than they have.
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
            _check_config(json.loads(archive.read("config.json")))
            with archive.open("model.weights.h5") as file, h5py.File(file, "r") as weights:
                _check_weights(weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # zipfile, json and h5py raise nearly anything on hostile bytes.
    except Exception as error:
        raise UserError(f"{path}: is not a whole .keras file ({error}).") from None


def _check_config(config: Any) -> None:
    # Not by recursion: how deep it goes is the file's choice.
    left = [config]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            left += item.values()
            if "class_name" in item:
                _check_object(item)


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


def _check_weights(group: h5py.Group) -> None:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"its weights {group.name}/{name} lie in another place. {_ADVICE}")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_weights(item)
        elif (
            not isinstance(item, h5py.Dataset)
            or item.external
            or item.is_virtual
            or item.nbytes > item.id.get_storage_size()
        ):
            raise UserError(
                f"its weights {item.name} lie in another file or take more room than they have. "
                f"{_ADVICE}"
            )
