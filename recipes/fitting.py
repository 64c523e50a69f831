"""The one way in which the recipe's networks are trained.

Several processes train one network together: each has its part of every batch. Two processes of
one thread each train 1.6 times as fast as one process of two threads, which wait for each other at
every layer.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from crackclf.files import writing

AVERAGED = 0.998  # Of the averaged weights, kept at a step.
SAVE_EVERY = 200  # Steps.

T = TypeVar("T")
Batch = tuple[torch.Tensor, ...]
Losses = dict[str, torch.Tensor]


def place() -> tuple[int, int]:
    """The number of this process among those that work together, and how many they are."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def gather(part: T) -> list[T]:
    """What each of the processes has found, in their order."""
    count = place()[1]
    parts = [part] * count
    if count > 1:
        torch.distributed.all_gather_object(parts, part)
    return parts


def join(part: np.ndarray, length: int) -> np.ndarray:
    """Answers in order, of which each process has found every so manyth, from its number on.

    Args:
        part: what this process has found, float32.
        length: of all answers.
    """
    whole = np.empty(length, np.float32)
    parts = gather(part)
    for first, found in enumerate(parts):
        whole[first :: len(parts)] = found
    return whole


def fit(
    net: torch.nn.Module,
    groups: list[dict[str, Any]],
    batches: Callable[[int], Iterable[Batch]],
    steps: int,
    losses: Callable[[torch.nn.Module, int, Batch], Losses],
    checkpoint: Path,
) -> None:
    """Trains a network, from the checkpoint on when there is one.

    The learning rate rises during a twentieth of the steps, then falls to 0 along a cosine.

    Args:
        net: the network, changed in place; ends with its averaged weights, ready to answer.
        groups: its parameters with their maximal learning rates, as AdamW takes them.
        batches: gives this process's parts of the batches from a step on.
        steps: number of batches.
        losses: gives the network's loss on such a part, in named terms; their sum is made smaller.
        checkpoint: file of the whole state, written every 200 steps and at the end.
    """
    warm_up = max(1, steps // 20)

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGED), use_buffers=True
    )
    state: dict[str, Any] = dict(net=net, optimizer=optimizer, schedule=schedule, average=average)
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        done = saved.pop("done")
        for name, part in saved.items():
            state[name].load_state_dict(part)
    recent: list[list[float]] = []
    number, count = place()
    trained = torch.nn.parallel.DistributedDataParallel(net) if count > 1 else net
    described = dict(initial=done, total=steps, desc=checkpoint.stem, unit=" steps")
    with tqdm(batches(done), mininterval=30, disable=number > 0, **described) as bar:
        for step, batch in enumerate(bar, done):
            torch.manual_seed(step)  # Of dropout, so that a training that goes on is the same.
            parts = losses(trained, step, batch)
            optimizer.zero_grad()
            sum(parts.values(), torch.zeros(())).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            recent.append([part.item() for part in parts.values()])
            if number == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
                means = np.mean(recent, axis=0)
                bar.set_postfix({k: f"{v:.4f}" for k, v in zip(parts, means, strict=True)})
                recent.clear()
                whole = {name: part.state_dict() for name, part in state.items()}
                with writing(checkpoint) as file:
                    torch.save(whole | {"done": step + 1}, file)
    gather(None)  # Nobody goes on before the checkpoint is written.
    net.load_state_dict(average.module.state_dict())
    net.eval()
