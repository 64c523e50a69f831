"""The small network that ships, taught from scratch by what a large one says of stored views.

In PyTorch, where a MobileNetV2 learns twice as fast on two cores as in TensorFlow, and in a
process of its own, which holds no more than that.
"""

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tqdm import tqdm

from crackclf.models.pytorch import torch, torchvision

CELL = 32  # Pixels of the image for each cell of the last feature map, each way.
LABEL_SHARE = 0.3
SAVE_EVERY = 500  # Steps.


def main(
    views: Annotated[Path, typer.Argument(help="Folder made by `label_views`.")],
    lessons: Annotated[Path, typer.Argument(help="npz file: is_cracked, schedule, sizes, seed.")],
    checkpoint: Annotated[Path, typer.Argument(help="Where the training is kept.")],
    learning_rate: Annotated[float, typer.Option(help="At its highest.")],
    start: Annotated[Path | None, typer.Option(help="Checkpoint to take the weights from.")] = None,
) -> None:
    """Teaches the student; its weights for Keras go beside the checkpoint, as npz."""
    with np.load(lessons) as file:
        plan = dict(file)
    torch.manual_seed(int(plan["seed"]))
    net = Student().to(memory_format=torch.channels_last)
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True)["net"])
    fit(net, Lessons(views, **plan), learning_rate, checkpoint)
    np.savez(checkpoint.with_suffix(".npz"), *to_keras(net))


class Student(torch.nn.Module):
    """A MobileNetV2 of half width that answers with its feature map and two logits."""

    def __init__(self) -> None:
        super().__init__()
        # Keras' settings of the normalisation, for there the network will live.
        norm = partial(torch.nn.BatchNorm2d, eps=1e-3, momentum=0.01)
        self.features = torchvision.models.mobilenet_v2(width_mult=0.5, norm_layer=norm).features
        self.head = torch.nn.Linear(1280, 2)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Feature map and logits of images of shape (batch, 3, height, width) in -1..1."""
        features = self.features(images)
        return features, self.head(features.mean(dim=(2, 3)))


class Lessons:
    """Batches of stored views; the same for the same seed and step, whenever asked.

    Args:
        views: folder with `images.npy`, `features.npy` and `logits.npy`, from `label_views`.
        is_cracked: bool of shape (n,), the true class of each view's image.
        schedule: int of shape (steps, batch_size): the views of each batch.
        sizes: int of shape (steps,): height and width in pixels at which a batch is seen. Up to
            half of the views' size a batch is of crops at full detail, which cost little; above
            that, of whole views made small.
        seed: of the cutting, turning and mirroring.
    """

    def __init__(
        self,
        views: Path,
        is_cracked: np.ndarray,
        schedule: np.ndarray,
        sizes: np.ndarray,
        seed: int,
    ):
        self.images, self.features, self.logits = (
            np.load(views / f"{name}.npy", mmap_mode="r")
            for name in ("images", "features", "logits")
        )
        self.is_cracked, self.schedule, self.sizes, self.seed = is_cracked, schedule, sizes, seed

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images in -1..1, feature maps and class probabilities to aim at."""
        rng = np.random.default_rng((int(self.seed), step))
        whole, size = self.images.shape[1], int(self.sizes[step])
        cut = size if size <= whole // 2 else whole
        lessons = [self._read(view, cut, rng) for view in self.schedule[step]]
        images, features, goals = (
            torch.from_numpy(np.stack(part)).float() for part in zip(*lessons, strict=True)
        )
        images, features = images.permute(0, 3, 1, 2), features.permute(0, 3, 1, 2)
        if cut != size:
            images = torch.nn.functional.interpolate(images, (size, size), mode="bilinear")
            cells = (size // CELL, size // CELL)
            features = torch.nn.functional.interpolate(
                features, cells, mode="bilinear", antialias=True
            )
        images = (images / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        return images, features, goals

    def _read(self, view: int, cut: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        room = (self.images.shape[1] - cut) // CELL
        top, left = rng.integers(0, room + 1, 2)
        cells = np.s_[top : top + cut // CELL, left : left + cut // CELL]
        pixels = np.s_[CELL * top : CELL * top + cut, CELL * left : CELL * left + cut]
        logits = self.logits[view][cells].mean(axis=(0, 1))
        goal = np.exp(logits - logits.max())
        goal /= goal.sum()
        cracked = self.is_cracked[view]
        # Of a part of a cracked image only the teacher knows whether it still shows the crack.
        if room == 0 or not cracked:
            label = np.array([cracked, not cracked], np.float32)
            goal = (1 - LABEL_SHARE) * goal + LABEL_SHARE * label
        flip, mirror, turn = rng.integers(0, 2, 3)
        axes = (1, 0, 2) if turn else (0, 1, 2)
        image, features = (
            part[:: 1 - 2 * flip, :: 1 - 2 * mirror].transpose(axes)
            for part in (self.images[view][pixels], self.features[view][cells])
        )
        return image, features, goal


def fit(net: Student, lessons: Lessons, learning_rate: float, checkpoint: Path) -> None:
    """Trains on all lessons, going on from the checkpoint where there is one.

    Args:
        net: the network, changed in place.
        lessons: what it learns from.
        learning_rate: at its highest, after a twentieth of the steps; from there it falls to 0
            along a cosine.
        checkpoint: file of the whole state, written every 500 steps and at the end.
    """
    steps = len(lessons.schedule)
    warm_up = max(1, steps // 20)

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=0.02)
    plan = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    state: dict[str, Any] = {"net": net, "optimizer": optimizer, "plan": plan}
    done, recent = 0, []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        done = saved.pop("done")
        for name, part in saved.items():
            state[name].load_state_dict(part)
    with tqdm(initial=done, total=steps, desc="Teaching", unit=" steps", mininterval=10) as bar:
        for step in range(done, steps):
            images, features, goals = lessons[step]
            seen, logits = net(images)
            disagreement = torch.nn.functional.cross_entropy(logits, goals)
            blindness = torch.nn.functional.mse_loss(seen, features)
            optimizer.zero_grad()
            (disagreement + 2 * blindness).backward()
            optimizer.step()
            plan.step()
            bar.update()
            recent.append((disagreement.item(), blindness.item()))
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                means = np.mean(recent, axis=0)
                bar.set_postfix(loss=f"{means[0]:.3f}", features=f"{means[1]:.3f}")
                recent.clear()
                whole = {name: part.state_dict() for name, part in state.items()}
                unfinished = checkpoint.with_name(f"partial-{checkpoint.name}")
                torch.save(whole | {"done": step + 1}, unfinished)
                unfinished.replace(checkpoint)


def to_keras(net: Student) -> list[np.ndarray]:
    """The weights in the order of Keras' MobileNetV2 and a Dense layer.

    At stride 2 PyTorch pads above and left where Keras pads below and right, which is the same
    network in a mirror: with kernels turned by half a turn, Keras sees in an image what PyTorch
    sees in that image turned likewise.
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


if __name__ == "__main__":
    typer.run(main)
