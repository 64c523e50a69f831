"""Views of images to train on: parts at many scales, turned, joined, and seen by many cameras."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from crackclf.images import read_image
from drawn import CENTRE, tile
from network import STRIDE
from sets import Item

_ZOOM = (-2.0, -0.2, 1.0)  # Of a view, as powers of 2: least, most frequent and greatest.
_WHOLE = 0.75  # Side of a cracked patch that a view shows at least: the crack is likely in it.
_SURE, _TOUCHED = 0.45, 0.03  # Shares of a pixel of the mask: crack, and not known.
LEAST = 6  # Pixels of the mask in a cracked view.

View = tuple[Image.Image, np.ndarray, bool]


@dataclass
class Views:
    """Views of sets of images; view i is always the same.

    Args:
        sets: images by name.
        shares: each set's share of the views.
        n: number of views.
        size: height and width of a view in pixels.
        seed: of everything drawn at random.
    """

    sets: dict[str, list[Item]]
    shares: dict[str, float]
    n: int
    size: int
    seed: int

    def __post_init__(self) -> None:
        rng, names = np.random.default_rng(self.seed), list(self.shares)
        likely = np.array([share * bool(self.sets[name]) for name, share in self.shares.items()])
        self._set = rng.choice(len(names), size=self.n, p=likely / likely.sum())
        self._item = np.empty(self.n, int)
        for index, name in enumerate(names):  # All images of a set before any comes again.
            wanted, size = int((self._set == index).sum()), max(1, len(self.sets[name]))
            rounds = [rng.permutation(len(self.sets[name])) for _ in range(-(-wanted // size))]
            self._item[self._set == index] = np.concatenate([np.empty(0, int), *rounds])[:wanted]
        self._sound = {k: [x for x in v if not x.is_cracked] for k, v in self.sets.items()}

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.float32, int]:
        """One view.

        Returns:
            The image, uint8 of shape (size, size, 3). The mask, int8 of shape (size / 4, size / 4):
            1 crack, 0 none, -1 unknown. Whether it is cracked. The index of its set.
        """
        name, rng = list(self.shares)[self._set[number]], np.random.default_rng((self.seed, number))
        item, zoom = self.sets[name][self._item[number]], 2 ** rng.triangular(*_ZOOM)
        image, mask, cracked = self._see(rng, name, item, zoom)
        for turn in [x for x in Image.Transpose if rng.random() < 0.5][:2]:
            image = image.transpose(turn)
            mask = np.asarray(Image.fromarray(mask.view(np.uint8)).transpose(turn)).view(np.int8)
        seen = distort(rng, image)
        return seen, np.ascontiguousarray(mask), np.float32(cracked), int(self._set[number])

    def _see(self, rng: np.random.Generator, name: str, item: Item, zoom: float) -> View:
        image = Image.fromarray(read_image(item.path))
        if item.tiles:
            image = tile(rng, image, int(self.size / min(zoom, 1)))
        if self.size / zoom < 1.3 * min(image.size):
            return see(rng, item, image, self.size, zoom)
        # Four images side by side: the seams are none.
        half, others = self.size // 2, self.sets[name]
        if not item.is_cracked or rng.random() < 0.5:
            others = self._sound[name] or others
        chosen = [item, *(others[i] for i in rng.integers(len(others), size=3))]
        parts: list[View] = []
        for i in rng.permutation(4):
            source = Image.fromarray(read_image(chosen[i].path))
            parts.append(see(rng, chosen[i], source, half, 2 * zoom))
        whole = Image.new("RGB", (2 * half, 2 * half))
        for place, (part, *_) in enumerate(parts):
            whole.paste(part, (place % 2 * half, place // 2 * half))
        masks = [mask for _, mask, _ in parts]
        return whole, np.block([masks[:2], masks[2:]]), any(cracked for *_, cracked in parts)


def see(rng: np.random.Generator, item: Item, image: Image.Image, size: int, zoom: float) -> View:
    """A square part of an image, its mask, and whether it is cracked."""
    least, cells = min(image.size), size // STRIDE
    side = min(size / zoom, least)
    if item.mask is None and item.is_cracked:
        side = max(side, _WHOLE * least)
    for _ in range(20):
        left, top = rng.uniform(0, 1, 2) * (image.width - side, image.height - side)
        box, cracked = (left, top, left + side, top + side), item.is_cracked
        mask = np.full((cells, cells), -1 if cracked else 0, np.int8)
        if item.mask is None or not cracked:
            break
        mask = read_mask(Image.open(item.mask), cells, box)
        cracked = bool((mask == 1).sum() >= LEAST)
        if cracked or not mask.any():
            break
    else:
        mask[mask == 1] = -1  # Only a corner of a crack.
    if rng.random() < 0.5:
        view = image.resize((size, size), Image.Resampling.BILINEAR, box)
    else:  # As patches are resized when the model answers.
        view = image.transform((size, size), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return view, mask, cracked


def read_mask(mask: Image.Image, cells: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """The pixels of the network's mask: 1 where crack is, or its centre line; int8."""
    values = np.asarray(mask)
    centre, crack = (
        np.asarray(Image.fromarray(x).resize((cells, cells), Image.Resampling.BOX, box))
        for x in ((values == CENTRE).astype(np.float32), (values > 0).astype(np.float32))
    )
    found = np.where(crack > _TOUCHED, -1, 0)
    # The line of a hairline is one pixel wide at least.
    return np.where((crack > _SURE) | (centre > 1e-6), 1, found).astype(np.int8)


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
