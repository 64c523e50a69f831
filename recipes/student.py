"""Trains the network that ships on stored views and the teacher's answers to them.

It is written in PyTorch, which trains a MobileNetV2 twice as fast on two cores as TensorFlow.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from tqdm import tqdm

import fitting


class Student(torch.nn.Module):
    """A MobileNetV2 of width 0.5 with two logits: of a crack, and of none."""

    def __init__(self) -> None:
        super().__init__()
        # As in Keras, to which the weights go.
        norm = partial(torch.nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        self.features = torchvision.models.mobilenet_v2(width_mult=0.5, norm_layer=norm).features
        self.head = torch.nn.Linear(1280, 2)

    def forward(self, images: torch.Tensor, parts: int = 1) -> torch.Tensor:
        """Logits of each part of each image, row by row: of shape (batch * parts * parts, 2).

        Args:
            images: of shape (batch, 3, height, width) in -1..1.
            parts: of an image in each direction.
        """
        cells = self.head(self.features(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        means = torch.nn.functional.adaptive_avg_pool2d(cells, parts)
        return means.permute(0, 2, 3, 1).reshape(-1, 2)


class Batches:
    """Batches of stored views and of what the student shall answer; batch i is always the same.

    Of each batch, every process has its own part.

    Args:
        views: folder from `teacher.label`.
        targets: float of shape (views,): the probability of a crack that each view shall get.
        schedule: int of shape (steps, batch_size): the views of each batch.
        sizes: int of shape (steps,): height and width to which each batch is resized, in pixels.
        seed: of turning and mirroring.
    """

    def __init__(
        self,
        views: Path,
        targets: np.ndarray,
        schedule: np.ndarray,
        sizes: np.ndarray,
        seed: int,
    ) -> None:
        self.images = np.load(views / "images.npy", mmap_mode="r")
        self.targets, self.schedule = targets, schedule
        self.sizes, self.seed = sizes, seed

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images in -1..1, and target probabilities."""
        number, count = fitting.place()
        rng = np.random.default_rng((self.seed, step, number))
        size = int(self.sizes[step])
        samples = [self._read(view, rng) for view in self.schedule[step, number::count]]
        images, targets = (
            torch.from_numpy(np.stack(part)).float() for part in zip(*samples, strict=True)
        )
        return to_input(images, size), targets

    def _read(self, view: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        crack = self.targets[view]
        flip, mirror, turn = rng.integers(0, 2, 3)
        image = self.images[view][:: 1 - 2 * flip, :: 1 - 2 * mirror]
        if turn:
            image = image.transpose(1, 0, 2)
        return image, np.array([crack, 1 - crack], np.float32)


def to_input(images: torch.Tensor, size: int) -> torch.Tensor:
    """What the network sees of images in 0..255, float of shape (n, height, width, 3)."""
    images = images.permute(0, 3, 1, 2)
    if size != images.shape[-1]:
        images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear")
    return (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def join(images: torch.Tensor) -> torch.Tensor:
    """Four images after one another make one, two above two; the shape is that of a batch."""
    count, channels, height, width = images.shape
    four = images.reshape(count // 4, 2, 2, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    joined = four.reshape(count // 4, channels, 2 * height, 2 * width)
    return joined.contiguous(memory_format=torch.channels_last)


def answer(net: Student, images: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """The network's logits of a crack, float32 of shape (rows,).

    It is the mean of two looks, one of them at the image turned by 180 degrees.

    Args:
        net: the network.
        images: uint8 of shape (n, height, width, 3).
        rows: those of the images that are looked at.
        size: height and width to which they are resized, in pixels.
    """
    number, count = fitting.place()
    own = rows[number::count]
    found = [np.empty(0, np.float32)]
    net.to(memory_format=torch.channels_last).eval()
    bar = tqdm(range(0, len(own), 64), desc="Student's answers", disable=number > 0)
    with torch.inference_mode():
        for start in bar:
            seen = to_input(torch.from_numpy(images[own[start : start + 64]]).float(), size)
            crack, none = ((net(seen) + net(seen.flip((2, 3)))) / 2).T
            found.append((crack - none).numpy())
    return fitting.join(np.concatenate(found), len(rows))


def train(net: Student, batches: Batches, learning_rate: float, checkpoint: Path) -> None:
    """Trains on all batches, from the checkpoint on when there is one.

    Args:
        net: the network; ends with the averaged weights.
        batches: the training data.
        learning_rate: its maximum.
        checkpoint: file of the whole state.
    """
    steps = len(batches.schedule)

    def losses(
        trained: torch.nn.Module, step: int, batch: fitting.Batch
    ) -> dict[str, torch.Tensor]:
        images, targets = batch
        # Three batches in four as in a photo: beside others, with the edge of the picture far away.
        said = trained(join(images), 2) if step % 4 else trained(images)
        return {"loss": torch.nn.functional.cross_entropy(said, targets)}

    groups = [{"params": list(net.parameters()), "lr": learning_rate}]
    rest = lambda done: map(batches.__getitem__, range(done, steps))
    fitting.fit(net, groups, rest, steps, losses, checkpoint)


def to_keras(net: Student) -> list[np.ndarray]:
    """The weights in the order of Keras' MobileNetV2 and a Dense layer.

    At stride 2, PyTorch pads above and left, Keras below and right. So the kernels are turned by
    180 degrees: in Keras the network gives for an image what it gives in PyTorch for the image
    turned by 180 degrees.
    """
    arrays = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            order = (2, 3, 0, 1) if module.groups > 1 else (2, 3, 1, 0)
            arrays.append(module.weight.flip((2, 3)).permute(order))
        elif isinstance(module, torch.nn.BatchNorm2d):
            arrays += [module.weight, module.bias, module.running_mean, module.running_var]
        elif isinstance(module, torch.nn.Linear):
            arrays += [module.weight.T, module.bias]
    return [array.detach().numpy() for array in arrays]


def from_keras(net: Student, arrays: Sequence[np.ndarray]) -> None:
    """Takes the weights that `to_keras` gives."""
    rest = iter(arrays)
    take = lambda: torch.from_numpy(next(rest))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                order = (2, 3, 0, 1) if module.groups > 1 else (3, 2, 0, 1)
                module.weight.copy_(take().permute(order).flip((2, 3)))
            elif isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    assert tensor is not None
                    tensor.copy_(take())
            elif isinstance(module, torch.nn.Linear):
                module.weight.copy_(take().T)
                module.bias.copy_(take())
