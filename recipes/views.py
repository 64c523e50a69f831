"""Augmented views of images, each decided by a seed and its number alone."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from crackclf.images import read_image
from drawn_concrete.make import make_patch
from sets import LEAST_CRACK, Item

_DRAWN = 1_000_000  # Patches that may be drawn before they repeat.


def draw_schedule(sizes: Sequence[int], weights: Sequence[float], n: int, seed: int) -> np.ndarray:
    """Draws the image of each view: sets by weight, the images of a set in turn.

    Args:
        sizes: number of images of each set; the images are numbered set after set.
        weights: each set's share of the views, summing to 1.
        n: number of views.
        seed: of the draw.

    Returns:
        int array of shape (n,): image numbers. All images of a set are drawn once before any is
        drawn again.
    """
    rng = np.random.default_rng(seed)
    which = rng.choice(len(sizes), size=n, p=weights)
    schedule = np.empty(n, dtype=np.int64)
    for index, (size, start) in enumerate(zip(sizes, np.cumsum([0, *sizes]), strict=False)):
        wanted = int((which == index).sum())
        rounds = [rng.permutation(size) for _ in range(-(-wanted // max(1, size)))]
        schedule[which == index] = start + np.concatenate([np.empty(0, int), *rounds])[:wanted]
    return schedule


@dataclass
class Views:
    """Views of sets of images; view i is always the same.

    Args:
        sets: images by name; those of "drawn" are drawn when they are asked for.
        shares: each set's share of the views.
        n: number of views.
        size: height and width in pixels, of each view or of all.
        seed: of everything drawn at random.
    """

    sets: dict[str, list[Item]]
    shares: dict[str, float]
    n: int
    size: int | np.ndarray
    seed: int

    def __post_init__(self) -> None:
        self._names = list(self.shares)
        sizes = [_DRAWN if name == "drawn" else len(self.sets[name]) for name in self._names]
        self._starts = np.cumsum([0, *sizes])
        self._schedule = draw_schedule(sizes, list(self.shares.values()), self.n, self.seed)
        self._sound = {k: [x for x in v if not x.is_cracked] for k, v in self.sets.items()}

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> tuple[np.ndarray, bool, int]:
        """A view, uint8 of shape (size, size, 3), whether it is cracked, and its set's index."""
        at = self._schedule[number]
        of_set = int(np.searchsorted(self._starts, at, "right")) - 1
        name, index = self._names[of_set], int(at - self._starts[of_set])
        rng = np.random.default_rng((self.seed, number))
        size = int(np.broadcast_to(self.size, self.n)[number])
        if name == "drawn":
            is_cracked = index % 2 == 1
            side = int(rng.uniform(200, 320))
            image, mask = make_patch(rng, is_cracked, side, hard=rng.random() < 0.8)
            view, is_cracked = crop(rng, image, mask, is_cracked, size)
        else:
            item = self.sets[name][index]
            if name == "metu" and rng.random() < 0.2:
                view, is_cracked = self._mosaic(rng, item, name, size)
            else:
                view, is_cracked = read(rng, item, size)
        return distort(rng, view), is_cracked, of_set

    def _mosaic(
        self, rng: np.random.Generator, item: Item, name: str, size: int
    ) -> tuple[Image.Image, bool]:
        """Four patches side by side: thinner cracks, and seams that are none."""
        others = self.sets[name] if item.is_cracked and rng.random() < 0.5 else self._sound[name]
        chosen = [item, *(others[i] for i in rng.integers(len(others), size=3))]
        half = -(-size // 2)
        whole = Image.new("RGB", (2 * half, 2 * half))
        for place, i in enumerate(rng.permutation(4)):
            tile, _ = read(rng, chosen[i], half)
            whole.paste(tile, (place % 2 * half, place // 2 * half))
        return whole.resize((size, size)), any(x.is_cracked for x in chosen)


def read(rng: np.random.Generator, item: Item, size: int) -> tuple[Image.Image, bool]:
    """A part of an image, and whether it is cracked."""
    mask = None if item.mask is None else read_image(item.mask)[..., 0] > 127
    return crop(rng, read_image(item.path), mask, item.is_cracked, size)


def crop(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray | None, cracked: bool, size: int
) -> tuple[Image.Image, bool]:
    """A square part of an image, turned, and whether it is cracked.

    Where there is a mask, it says so. Else a part of a cracked image is large, so that the crack
    is most likely in it.
    """
    whole = Image.fromarray(image)
    for _ in range(20):
        least = 0.8 if cracked and mask is None else 0.5
        side = min(whole.size) * rng.uniform(least, 1)
        left, top = rng.uniform(0, 1, 2) * (whole.width - side, whole.height - side)
        if mask is None:
            break
        part = mask[int(top) : int(top + side), int(left) : int(left + side)]
        cracked = bool(part.mean() >= LEAST_CRACK)
        if cracked or not part.any():
            break
    box = (left, top, left + side, top + side)
    if rng.random() < 0.5:
        view = whole.resize((size, size), Image.Resampling.BILINEAR, box)
    else:  # As patches are resized when the model answers.
        view = whole.transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    turns = [x for x in Image.Transpose if rng.random() < 0.5][:2]
    for turn in turns:
        view = view.transpose(turn)
    return view, cracked


def distort(rng: np.random.Generator, view: Image.Image) -> np.ndarray:
    """What light and camera do: brightness, contrast, colour, blur, noise and JPEG."""
    chance = rng.random(6)
    if chance[0] < 0.25:
        view = view.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.6))))
    elif chance[0] < 0.4:
        small = int(view.width * rng.uniform(0.45, 0.9))
        view = view.resize((small, small), Image.Resampling.BILINEAR).resize(view.size)
    elif chance[0] < 0.5:
        view = view.filter(ImageFilter.UnsharpMask(2, int(rng.uniform(30, 150)), 0))
    pixels = np.asarray(view, np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    mean = grey.mean()
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0, 1.5))
    pixels = (pixels - mean) * np.float32(np.exp(rng.normal(0, 0.22))) + mean
    # Neither so dark nor so bright that nothing is seen.
    gain = np.clip(np.exp(rng.normal(0, 0.25)), 45 / max(mean, 1), 210 / max(mean, 1))
    pixels *= (gain * np.exp(rng.normal(0, 0.04, 3))).astype(np.float32)
    if chance[1] < 0.15:
        ramp = np.linspace(*np.exp(rng.normal(0, 0.3, 2)), view.width, dtype=np.float32)
        pixels *= ramp[:, None] if rng.random() < 0.5 else ramp[:, None, None]
    if chance[2] < 0.3:
        noise = rng.standard_normal(pixels.shape[: 2 + (rng.random() < 0.5)], np.float32)
        pixels += rng.uniform(1, 12) * noise.reshape(*pixels.shape[:2], -1)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    if chance[3] < 0.4:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=int(rng.uniform(25, 90)))
        pixels = np.array(Image.open(content))  # PyTorch wants to own it.
    return pixels
