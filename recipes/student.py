"""Trains the network that ships, from scratch, on stored views and the teacher's answers.

It is written in PyTorch, which trains a MobileNetV2 twice as fast on two cores as TensorFlow.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision

import fitting

CELL = 32  # Pixels of the image to a cell of the last feature map, each way.
FEATURE_WEIGHT = 2.0  # Of the loss of the features.


class Student(torch.nn.Module):
    """A MobileNetV2 of width 0.5 that returns its feature map and two logits."""

    def __init__(self) -> None:
        super().__init__()
        # As in Keras, to which the weights go.
        norm = partial(torch.nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        self.features = torchvision.models.mobilenet_v2(width_mult=0.5, norm_layer=norm).features
        self.head = torch.nn.Linear(1280, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Feature map and logits of images of shape (batch, 3, height, width) in -1..1."""
        features = self.features(images)
        return features, self.head(features.mean(dim=(2, 3)))


class Batches:
    """Batches of stored views and of what the student shall answer; batch i is always the same.

    Args:
        views: folder from `teacher.label`.
        label_shares: float of shape (views,): weight of the label in each view's target; the
            teacher's answer has the rest.
        schedule: int of shape (steps, batch_size): the views of each batch.
        sizes: int of shape (steps,): height and width of each batch in pixels. Up to half of the
            views' size, a batch has crops; above that, resized views.
        seed: of cropping, turning and mirroring.
    """

    def __init__(
        self,
        views: Path,
        label_shares: np.ndarray,
        schedule: np.ndarray,
        sizes: np.ndarray,
        seed: int,
    ) -> None:
        self.images, self.features, self.logits, self.is_cracked = (
            np.load(views / f"{name}.npy", mmap_mode="r")
            for name in ("images", "features", "logits", "is_cracked")
        )
        self.label_shares, self.schedule = label_shares, schedule
        self.sizes, self.seed = sizes, seed

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images in -1..1, the teacher's feature maps, and target probabilities."""
        rng = np.random.default_rng((self.seed, step))
        whole, size = self.images.shape[1], int(self.sizes[step])
        cut = size if size <= whole // 2 else whole
        samples = [self._read(view, cut, rng) for view in self.schedule[step]]
        images, features, targets = (
            torch.from_numpy(np.stack(part)).float() for part in zip(*samples, strict=True)
        )
        images, features = images.permute(0, 3, 1, 2), features.permute(0, 3, 1, 2)
        if cut != size:
            images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear")
            cells = (size // CELL, size // CELL)
            features = torch.nn.functional.interpolate(
                features, cells, mode="bilinear", antialias=True
            )
        images = (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return images, features, targets

    def _read(self, view: int, cut: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        room = (self.images.shape[1] - cut) // CELL
        top, left = rng.integers(0, room + 1, 2)
        cells = np.s_[top : top + cut // CELL, left : left + cut // CELL]
        pixels = np.s_[CELL * top : CELL * top + cut, CELL * left : CELL * left + cut]
        said = 1 / (1 + np.exp(-self.logits[view][cells].mean()))
        target = np.array([said, 1 - said], np.float32)
        cracked = self.is_cracked[view]
        # A crop of a cracked view may not show the crack, so the label does not hold for it.
        if room == 0 or not cracked:
            label = np.array([cracked, not cracked], np.float32)
            share = self.label_shares[view]
            target = (1 - share) * target + share * label
        flip, mirror, turn = rng.integers(0, 2, 3)
        axes = (1, 0, 2) if turn else (0, 1, 2)
        image, features = (
            part[:: 1 - 2 * flip, :: 1 - 2 * mirror].transpose(axes)
            for part in (self.images[view][pixels], self.features[view][cells])
        )
        return image, features, target


def train(net: Student, batches: Batches, learning_rate: float, checkpoint: Path) -> None:
    """Trains on all batches, from the checkpoint on when there is one.

    Args:
        net: the network; ends with the averaged weights.
        batches: the training data.
        learning_rate: its maximum.
        checkpoint: file of the whole state.
    """
    steps = len(batches.schedule)

    def losses(step: int, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        images, features, targets = batch
        seen, logits = net(images)
        return {
            "class_loss": torch.nn.functional.cross_entropy(logits, targets),
            "feature_loss": FEATURE_WEIGHT * torch.nn.functional.mse_loss(seen, features),
        }

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
