"""Trains the network that ships, from scratch, on stored views and the teacher's answers.

It is written in PyTorch, which trains a MobileNetV2 twice as fast on two cores as TensorFlow.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from tqdm import tqdm

from crackclf.files import writing

CELL = 32  # Pixels of the image to a cell of the last feature map, each way.
LABEL_SHARE = 0.3  # Weight of the label in the target; the teacher's answer has the rest.
FEATURE_WEIGHT = 2.0  # Of the loss of the features.
SAVE_EVERY = 500  # Steps.


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
        schedule: int of shape (steps, batch_size): the views of each batch.
        sizes: int of shape (steps,): height and width of each batch in pixels. Up to half of the
            views' size, a batch has crops; above that, resized views.
        seed: of cropping, turning and mirroring.
    """

    def __init__(self, views: Path, schedule: np.ndarray, sizes: np.ndarray, seed: int) -> None:
        self.images, self.features, self.logits, self.is_cracked = (
            np.load(views / f"{name}.npy", mmap_mode="r")
            for name in ("images", "features", "logits", "is_cracked")
        )
        self.schedule, self.sizes, self.seed = schedule, sizes, seed

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
            target = (1 - LABEL_SHARE) * target + LABEL_SHARE * label
        flip, mirror, turn = rng.integers(0, 2, 3)
        axes = (1, 0, 2) if turn else (0, 1, 2)
        image, features = (
            part[:: 1 - 2 * flip, :: 1 - 2 * mirror].transpose(axes)
            for part in (self.images[view][pixels], self.features[view][cells])
        )
        return image, features, target


def fit(net: Student, batches: Batches, learning_rate: float, checkpoint: Path) -> None:
    """Trains on all batches, from the checkpoint on when there is one.

    Args:
        net: the network, changed in place.
        batches: the training data.
        learning_rate: its maximum, reached after a twentieth of the steps; from there it falls to
            0 along a cosine.
        checkpoint: file of the whole state, written every 500 steps and at the end.
    """
    steps = len(batches.schedule)
    warm_up = max(1, steps // 20)

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    state: dict[str, Any] = {"net": net, "optimizer": optimizer, "schedule": schedule}
    done, recent = 0, []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        done = saved.pop("done")
        for name, part in saved.items():
            state[name].load_state_dict(part)
    with tqdm(initial=done, total=steps, desc="Training", unit=" steps", mininterval=10) as bar:
        for step in range(done, steps):
            images, features, targets = batches[step]
            seen, logits = net(images)
            class_loss = torch.nn.functional.cross_entropy(logits, targets)
            feature_loss = torch.nn.functional.mse_loss(seen, features)
            optimizer.zero_grad()
            (class_loss + FEATURE_WEIGHT * feature_loss).backward()
            optimizer.step()
            schedule.step()
            bar.update()
            recent.append((class_loss.item(), feature_loss.item()))
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                means = np.mean(recent, axis=0)
                bar.set_postfix(class_loss=f"{means[0]:.3f}", feature_loss=f"{means[1]:.3f}")
                recent.clear()
                whole = {name: part.state_dict() for name, part in state.items()}
                with writing(checkpoint) as file:
                    torch.save(whole | {"done": step + 1}, file)


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
