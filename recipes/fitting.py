"""The one way in which the recipe's networks are trained."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from crackclf.files import writing

AVERAGED = 0.998  # Of the averaged weights, kept at a step.
SAVE_EVERY = 200  # Steps.

Batch = tuple[torch.Tensor, ...]
Losses = dict[str, torch.Tensor]


def fit(
    net: torch.nn.Module,
    groups: list[dict[str, Any]],
    batches: Callable[[int], Iterable[Batch]],
    steps: int,
    losses: Callable[[int, Batch], Losses],
    checkpoint: Path,
) -> None:
    """Trains a network, from the checkpoint on when there is one.

    The learning rate rises during a twentieth of the steps, then falls to 0 along a cosine.

    Args:
        net: the network, changed in place; ends with its averaged weights, ready to answer.
        groups: its parameters with their maximal learning rates, as AdamW takes them.
        batches: gives the batches from a step on.
        steps: number of batches.
        losses: gives the parts of the loss of a batch by name; their sum is made smaller.
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
    described = dict(initial=done, total=steps, desc=checkpoint.stem, unit=" steps")
    with tqdm(batches(done), mininterval=30, **described) as bar:
        for step, batch in enumerate(bar, done):
            torch.manual_seed(step)  # Of dropout, so that a training that goes on is the same.
            parts = losses(step, batch)
            optimizer.zero_grad()
            sum(parts.values(), torch.zeros(())).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            recent.append([part.item() for part in parts.values()])
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                means = np.mean(recent, axis=0)
                bar.set_postfix({k: f"{v:.4f}" for k, v in zip(parts, means, strict=True)})
                recent.clear()
                whole = {name: part.state_dict() for name, part in state.items()}
                with writing(checkpoint) as file:
                    torch.save(whole | {"done": step + 1}, file)
    net.load_state_dict(average.module.state_dict())
    net.eval()


def load(net: torch.nn.Module, checkpoint: Path) -> None:
    """Loads the averaged weights of a training."""
    whole, prefix = torch.load(checkpoint, weights_only=True)["average"], "module."
    net.load_state_dict({k[len(prefix) :]: v for k, v in whole.items() if k.startswith(prefix)})
    net.to(memory_format=torch.channels_last).eval()
