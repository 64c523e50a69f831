"""Trains the network, in PyTorch alone; `recipes/concrete.py` starts it in two processes.

Each has its part of every batch. Two processes of one thread each train 1.6 times as fast as one of
two threads, which wait for each other at every layer. It writes `OUT/first-weights.pt` and
`OUT/last-weights.pt`. Started again it goes on where it stopped.
"""

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from crackclf.errors import notice
from crackclf.files import write_whole, writing
from crackclf.images import read_image
from network import Network
from sets import Item, read_sets
from views import LEAST, Views

# Of each set: its shares of the views in the first half and in the second.
SHARES = {
    "metu": (0.11, 0.09),
    "sdnet cracked": (0.2, 0.18),
    "sdnet sound": (0.18, 0.16),
    "concrete": (0.13, 0.1),
    "jointed": (0.14, 0.1),
    "real": (0.15, 0.12),
    "textures": (0.05, 0.04),
    "sound": (0.04, 0.03),
    "mined": (0.0, 0.05),
    "drone": (0.0, 0.13),
}
VIEWS, VIEW_SIZE, BATCH_SIZE = (96_000, 112_000), 192, 32
MINED = 0.25  # Share of the sound views of whole photos that come again, those most like a crack.
RATE, HEAD_RATE, SECOND_RATE, DECAY = 4e-4, 2e-3, 0.7, 0.02
# Of the first half's weights in the last ones (model soup: Wortsman et al. 2022, arXiv:2203.05482).
FIRST_SHARE = 0.25
AVERAGED = 0.998  # Of the averaged weights, kept at a step.
SAVE_EVERY = 100  # Steps.
SMOOTHING = 0.05
BELIEVED = 0.3  # Weight of the network's own answer against the label, on SDNET2018.
_TOP = 0.006  # Share of the mask that a cracked patch without a mask has at least.
CRACK_WEIGHT = 4.0  # Of a pixel of crack against one of none.


def main(
    out: Annotated[Path, typer.Argument(help="Folder for all that the recipe makes.")],
    data: Annotated[Path, typer.Argument(help="Folder of the data sets.")],
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    scale: Annotated[float, typer.Option(help="Share of the training, to try it out.")] = 1.0,
) -> None:
    """Trains the network."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    sets = dict(read_sets(out, data, scale, seed).train)
    torch.manual_seed(seed)
    net, sets["mined"], kept = Network(), [], {}
    for half, name in enumerate(("first", "last")):
        if half:
            sets["mined"] = mine(net, sets["sound"], out / "mined.txt")
        shares = {key: share[half] for key, share in SHARES.items()}
        if torch.distributed.get_rank() == 0:
            notice(f"{name}: " + ", ".join(f"{k} {len(sets[k])}" for k, x in shares.items() if x))
        views = Views(sets, shares, int(VIEWS[half] * scale), VIEW_SIZE, seed + half)
        fit(net, views, SECOND_RATE if half else 1.0, out / f"{name}.pt")
        state = {key: value.clone() for key, value in net.state_dict().items()}
        if half:
            state = {key: torch.lerp(x, kept[key], FIRST_SHARE) for key, x in state.items()}
        kept = state
        if torch.distributed.get_rank() == 0:
            with writing(out / f"{name}-weights.pt") as draft:
                torch.save(state, draft)


def mine(net: Network, items: list[Item], file: Path) -> list[Item]:
    """The sound views that look most like a crack to the network, by their file names."""
    if not file.exists() and torch.distributed.get_rank() == 0:
        scores = []
        for item in tqdm(items, "Mining", unit=" views", mininterval=30):
            with torch.inference_mode():
                cells, pixels = net(_to_input(torch.from_numpy(read_image(item.path))[None]))
            top = torch.sigmoid(pixels).flatten().topk(20).values.mean()
            scores.append(float(torch.sigmoid(cells.mean()) + top))
        worst = np.argsort(scores)[::-1][: int(MINED * len(items))]
        write_whole(file, "\n".join(items[i].path.name for i in worst) + "\n")
    torch.distributed.barrier()
    names = set(file.read_text().split())
    return [item for item in items if item.path.name in names]


def fit(net: Network, views: Views, share: float, checkpoint: Path) -> None:
    """Trains a network, from the checkpoint on when there is one.

    The learning rate rises during a twentieth of the steps, then falls to 0 along a cosine.

    Args:
        net: the network, changed in place; ends with its averaged weights, ready to answer.
        views: the training data.
        share: of the learning rate.
        checkpoint: file of the whole state, written every 100 steps and at the end.
    """
    steps = len(views) // BATCH_SIZE
    warm_up = max(1, steps // 20)

    def rate(step: int) -> float:
        if step < warm_up:
            return share * (step + 1) / warm_up
        return share * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2

    net.to(memory_format=torch.channels_last).train()
    base = {id(x) for conv in net.base() for x in conv.parameters()}
    groups = [
        {"params": [x for x in net.parameters() if (id(x) in base) == is_base], "lr": rate_of}
        for is_base, rate_of in ((True, RATE), (False, HEAD_RATE))
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGED)
    )
    state: dict[str, Any] = dict(net=net, optimizer=optimizer, schedule=schedule, average=average)
    done, rank = 0, torch.distributed.get_rank()
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        done = saved.pop("done")
        for name, content in saved.items():
            state[name].load_state_dict(content)
    trained = torch.nn.parallel.DistributedDataParallel(net)
    believed = torch.tensor([BELIEVED * name.startswith("sdnet") for name in views.shares])
    starts = range(done * BATCH_SIZE, steps * BATCH_SIZE, BATCH_SIZE)
    count = torch.distributed.get_world_size()
    order = [list(range(i + rank, i + BATCH_SIZE, count)) for i in starts]
    loader = torch.utils.data.DataLoader(views, batch_sampler=order, num_workers=1)
    recent: list[list[float]] = []
    described = dict(initial=done, total=steps, desc=checkpoint.stem, unit=" steps")
    with tqdm(loader, mininterval=30, disable=rank > 0, **described) as bar:
        for step, batch in enumerate(bar, done):
            torch.manual_seed(2 * step + rank)  # A training that goes on is the same.
            losses = compute_losses(trained, step, batch, believed * min(1, 3 * step / steps))
            optimizer.zero_grad()
            sum(losses.values(), torch.zeros(())).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            recent.append([loss.item() for loss in losses.values()])
            if rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
                means = np.mean(recent, axis=0)
                bar.set_postfix({k: f"{v:.4f}" for k, v in zip(losses, means, strict=True)})
                recent.clear()
                whole = {name: content.state_dict() for name, content in state.items()}
                with writing(checkpoint) as file:
                    torch.save(whole | {"done": step + 1}, file)
    torch.distributed.barrier()  # Nobody goes on before the checkpoint is written.
    net.load_state_dict(average.module.state_dict())
    net.eval()


def compute_losses(
    net: torch.nn.Module, step: int, batch: list[Tensor], believed: Tensor
) -> dict[str, Tensor]:
    """The losses of the label, of the mask, and of the mask where only the label is known."""
    images, mask, cracked, of_set = batch
    if step % 3 == 0:  # As in a photo: beside others, with the edge of the picture far away.
        size = images.shape[1]
        four = images.reshape(-1, 2, 2, size, size, 3).transpose(2, 3)
        joined = four.reshape(-1, 2 * size, 2 * size, 3)
        cells, pixels = map(_part, net(_to_input(joined)))
    else:
        cells, pixels = net(_to_input(images))
    logits = cells.mean((1, 2))
    label = cracked * (1 - SMOOTHING) + SMOOTHING / 2
    # Some labels are wrong (bootstrapping: Reed et al. 2014, arXiv:1412.6596).
    own = believed[of_set]
    target = (1 - own) * label + own * torch.sigmoid(logits.detach())
    losses = {"label": functional.binary_cross_entropy_with_logits(logits, target)}

    known, crack = (mask >= 0).float(), (mask == 1).float()
    weight = known * (1 + (CRACK_WEIGHT - 1) * crack)
    losses["mask"] = functional.binary_cross_entropy_with_logits(
        pixels, crack, weight, reduction="sum"
    ) / weight.sum().clamp(min=1)
    shown = torch.sigmoid(pixels) * known
    both, either = (shown * crack).sum((1, 2)), (shown + crack).sum((1, 2))
    has = (crack.sum((1, 2)) >= LEAST).float()  # Dice: Milletari et al. 2016, arXiv:1606.04797.
    dice = 1 - (2 * both + 10) / (either + 10)
    losses["dice"] = 0.5 * (dice * has).sum() / has.sum().clamp(min=1)
    count = max(int(_TOP * pixels[0].numel()), 4)
    top = pixels.flatten(1).topk(count, 1).values.mean(1)
    losses["top"] = 0.5 * functional.binary_cross_entropy_with_logits(top, label)
    return losses


def _to_input(images: Tensor) -> Tensor:
    """Images (n, height, width, 3) as the network takes them."""
    return images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def _part(whole: Tensor) -> Tensor:
    """The answers to four images that are joined, two above two."""
    count, height, width = whole.shape
    four = whole.reshape(count, 2, height // 2, 2, width // 2).permute(0, 1, 3, 2, 4)
    return four.reshape(4 * count, height // 2, width // 2)


if __name__ == "__main__":
    typer.run(main)
