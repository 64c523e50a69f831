"""ResNet18 in PyTorch: built, and its weights found, loaded and saved."""

import os
from pathlib import Path
from typing import IO

from crackclf.errors import UserError
from crackclf.extras import RESNET18
from crackclf.files import sha256
from crackclf.models.weights import find_weights, first_line, missing_weights
from crackclf.torch.pytorch import torch, torchvision

_MOST_CLASSES = 10_000
_WEIGHTS = torchvision.models.ResNet18_Weights.IMAGENET1K_V1


class ResNet18(torchvision.models.ResNet):
    """torchvision's `resnet18` with ImageNet's normalisation inside.

    From float RGB images of shape (batch, 3, height, width) in 0..255 to logits of shape
    (batch, classes). Its state dict has torchvision's layout. Attributes and methods that
    `save_model` needs are called as in Keras.

    Args:
        classes: number of them.

    Attributes:
        backbone: `"resnet18-torch"`.
        weights_origin: where its weights came from before training.
    """

    def __init__(self, classes: int = 2) -> None:
        super().__init__(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
        self.fc = torch.nn.Linear(self.fc.in_features, classes)
        seen = _WEIGHTS.transforms()
        mean, std = [255 * x for x in seen.mean], [255 * x for x in seen.std]
        self.normalize = torchvision.transforms.Normalize(mean, std)
        self.backbone, self.weights_origin = RESNET18, "random initialisation"
        # With channels last, a CPU computes these convolutions 1.5 times as fast.
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images in 0..255."""
        return super().forward(self.normalize(x))

    def train(self, mode: bool = True) -> "ResNet18":
        """Switches to training mode, except frozen BatchNorm: its statistics would move."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def count_params(self) -> int:
        """Number of weights, statistics of BatchNorm included."""
        return sum(value.numel() for value in self.state_dict().values())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the state dict."""
        torch.save(self.state_dict(), path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ResNet18":
        """Reads what `save` wrote, by `load_resnet18`."""
        return load_resnet18(path)


def build_resnet18(
    weights: str | os.PathLike | None = "imagenet", frozen: bool = True, classes: int = 2
) -> ResNet18:
    """Builds a ResNet18 with a new layer for the classes.

    Args:
        weights: `"imagenet"`: `resnet18.pth` from the folder that the environment variable
            `CRACKCLF_WEIGHTS_DIR` names, else torchvision's cache or download; a path: that state
            dict, of torchvision's layout; `"random"` or None: random weights.
        frozen: train the new layer alone: `requires_grad` is False for all others.
        classes: number of them, `len(data.class_names)`.

    Returns:
        The network. Its random weights follow `torch.manual_seed`.

    Raises:
        MissingWeightsError: when ImageNet's weights cannot be had.
        UserError: when a weights file cannot be used.

    Example:

    ```python
    torch.manual_seed(0)
    model = build_resnet18()
    ```
    """
    model = ResNet18(classes)
    file = find_weights("resnet18", weights, (".pth",))
    if file is not None:
        state = _read(file)
        _fill(model, file, _without_top(state, model))
        model.weights_origin = f"{file.name}, sha256 {sha256(file)}"
    elif weights not in (None, "random"):
        try:
            state = _WEIGHTS.get_state_dict(weights_only=True, check_hash=True)
        except Exception as error:
            name = Path(_WEIGHTS.url).name
            other = f"put torchvision's {name} into {torch.hub.get_dir()}/checkpoints"
            raise missing_weights(RESNET18, error, "resnet18.pth", other) from None
        model.load_state_dict(_without_top(state, model))
        model.weights_origin = "ImageNet, by torchvision"
    for parameter in model.parameters():
        parameter.requires_grad = not frozen
    model.fc.requires_grad_(True)
    return model


def load_resnet18(file: str | os.PathLike | IO[bytes]) -> ResNet18:
    """Loads the state dict of a saved model. Nothing but tensors is unpickled.

    Args:
        file: what `ResNet18.save` wrote: its path, or the open file.

    Returns:
        The network, in evaluation mode on the CPU.

    Raises:
        UserError: when it is not the state dict of a `ResNet18`.

    Example:

    ```python
    model = load_resnet18("saved_models/twin/model.pt")
    ```
    """
    state = _read(file)
    top = state.get("fc.weight")
    classes = len(top) if isinstance(top, torch.Tensor) and top.ndim else 2
    if classes > _MOST_CLASSES:  # A tensor can say so and hold a single number.
        raise _unusable(file, ValueError(f"{classes:,} classes"))
    model = ResNet18(classes)
    _fill(model, file, state)
    return model.eval()


def _read(file: str | os.PathLike | IO[bytes]) -> dict[str, torch.Tensor]:
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        raise _unusable(file, error) from None


def _fill(
    model: ResNet18, file: str | os.PathLike | IO[bytes], state: dict[str, torch.Tensor]
) -> None:
    try:
        model.load_state_dict(state)
    except Exception as error:
        raise _unusable(file, error) from None


def _unusable(file: str | os.PathLike | IO[bytes], error: Exception) -> UserError:
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else "model.pt"
    return UserError(
        f"{name}: cannot be loaded as a ResNet18 ({first_line(error)}). Expected a state dict of "
        "torchvision's layout, as torch.save writes it."
    )


def _without_top(state: dict[str, torch.Tensor], model: ResNet18) -> dict[str, torch.Tensor]:
    """The state with the model's own top: ImageNet's has a thousand classes."""
    own = model.state_dict()
    return {name: own[name] if name.startswith("fc.") else x for name, x in state.items()}
