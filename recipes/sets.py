"""The images on which the networks of the recipe are trained and measured."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from crackclf.data import load_datasets
from crackclf.errors import UserError
from crackclf.files import cores, writing
from crackclf.folders import digest_of
from crackclf.images import read_image
from drawn_concrete.concrete import photograph, surface
from drawn_concrete.joints import JOINTED
from drawn_concrete.write import write_sample

# Photos of SDNET2018 that no network is trained on. They are those of the first edition, so that
# both editions can be measured on them.
_VALIDATION = (
    "D_7025 D_7038 D_7049 D_7054 P_002 P_011 P_027 P_035 P_045 P_046 P_051 P_062 P_076 P_082"
)
_TEST = (
    "D_7012 D_7013 D_7029 D_7035 D_7037 D_7051 P_001 P_003 P_009 P_010 P_016 P_038 P_064 P_068 "
    "P_071 P_073 P_086 P_100 W_7079 W_7090 W_7105 W_7109 W_7131 W_7138"
)
_SUBSET = dict.fromkeys(_VALIDATION.split(), "validation") | dict.fromkeys(_TEST.split(), "test")
_COLUMNS, _SQUARE = 18, 256  # Of a photo of SDNET2018.
_SOUND_VIEWS = 250  # Cut from each whole photo.
LEAST_CRACK = 0.003  # Share of a drone patch; with less, the crack only touches its edge.
N_DRAWN = 2000  # Of each drawn set, half to choose by and half to measure on.
_DRAWN_SEED = 90_000  # No seed of the training.


@dataclass(frozen=True)
class Item:
    """One image and what is known of it.

    Attributes:
        path: of the image.
        is_cracked: whether a crack is to be seen.
        photo: the photo that it was cut from; its own name where that is not known.
        mask: of its cracks, or None.
    """

    path: Path
    is_cracked: bool
    photo: str
    mask: Path | None = None


Set = dict[str, list[Item]]


@dataclass(frozen=True)
class Sets:
    """All images by set.

    Attributes:
        train: "metu", "sdnet", and for the last stage alone "drone" (frames with masks), "squares"
            and "sound" (of whole photos).
        validation: of what chooses temperature and threshold.
        test: what decides nothing.
        elsewhere: test sets of which the last stage sees other parts, whole: for the run that
            leaves them out.
    """

    train: Set
    validation: Set
    test: Set
    elsewhere: Set


def read_sets(out: Path, metu: Path, sdnet: Path, uav: Path, seed: int, scale: float) -> Sets:
    """Reads the folders, and cuts and draws into OUT what is not there yet."""
    n_drawn = int(N_DRAWN * min(1, 10 * scale))
    patches, photos, frames = read_metu(metu, seed), read_sdnet(sdnet), read_frames(uav)
    drone = cut_frames(frames, out / "drone")
    held_back = {frame.photo for frame in frames[::5]}
    squares = [x for x in photos["whole"] if x.photo not in _SUBSET]
    drawn, jointed = draw_sample(out / "drawn", n_drawn), draw_jointed(out / "jointed", n_drawn)
    train = {
        "metu": patches["train"],
        "sdnet": photos["train"],
        "drone": [x for x in frames if x.photo not in held_back],
        "squares": squares,
        "sound": cut_sound(squares, out / "sound", seed),
    }
    validation = {
        "metu": patches["validation"],
        "sdnet": photos["validation"],
        "drawn": drawn[::2],
    }
    test = {
        "metu": patches["test"],
        "sdnet": photos["test"],
        **{k: [x for x in photos["test"] if x.photo[0] == k] for k in "DPW"},
        "drawn": drawn[1::2],
        "jointed": jointed[1::2],  # SHARE in concrete.py was chosen on the others.
        "drone": [x for x in drone if x.photo in held_back],
    }
    return Sets(train, validation, test, {"frames": drone, "whole": photos["whole"]})


def find_unseen(items: Sequence[Item], split: Path) -> np.ndarray:
    """Which images had no part in the training of a model, by the `split.csv` in its folder.

    Of a drone frame, no patch may have had.
    """
    with split.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["subset"] != "test"]
    digests = {row["digest"] for row in rows}
    names = [Path(row["file"]) for row in rows]
    frames = {x.stem.rsplit("-", 2)[0] for x in names if x.parts[0] in ("uav", "drone")}
    return np.array(
        [x.photo not in frames and digest_of(x.path.read_bytes()) not in digests for x in items]
    )


def read_metu(folder: Path, seed: int) -> Set:
    """METU; byte-identical files are on one side of the split."""
    data = load_datasets(folder, 160, 32, 0.1, 0.2, seed)
    cracked = data.class_names.index("Positive")
    return {
        subset: [Item(x.path, x.label == cracked, x.path.name) for x in images]
        for subset, images in data.images.items()
    }


def read_sdnet(folder: Path) -> Set:
    """SDNET2018 by photo.

    Photos that are there whole are in "whole", also where they are in "test" or "validation"; they
    are in "train" for nobody.
    """
    items = []
    for path in sorted(folder.glob("*/*.jpg")):
        match = re.match(r"([DPW]_\d+)-\d+", path.name)
        if not match or path.parent.name not in ("crack", "no_crack"):
            raise UserError(f"{path}: expected crack/ and no_crack/ with names as D_7001-115.jpg.")
        items.append(Item(path, path.parent.name == "crack", match[1]))
    counts = Counter(item.photo for item in items)
    whole = {photo for photo, count in counts.items() if count > 200}
    found: Set = {"train": [], "validation": [], "test": [], "whole": []}
    for item in items:
        subset = _SUBSET.get(item.photo, "" if item.photo in whole else "train")
        if subset:
            found[subset].append(item)
        if item.photo in whole:
            found["whole"].append(item)
    return found


def cut_sound(squares: Iterable[Item], folder: Path, seed: int) -> list[Item]:
    """Views of whole photos at any place and scale that touch no square with a crack."""
    if not folder.exists():
        by_photo: dict[str, list[Item]] = {}
        for square in squares:
            by_photo.setdefault(square.photo, []).append(square)
        with writing(folder) as draft:
            draft.mkdir()
            for number, photo in enumerate(sorted(by_photo)):
                _cut_photo(by_photo[photo], draft, np.random.default_rng((seed, number)))
    return [Item(x, False, x.name.rsplit("-", 1)[0]) for x in sorted(folder.iterdir())]


def _cut_photo(squares: list[Item], folder: Path, rng: np.random.Generator) -> None:
    numbers = [int(re.findall(r"-(\d+)", x.path.name)[0]) - 1 for x in squares]
    shape = (max(numbers) // _COLUMNS + 1, _COLUMNS)
    whole = Image.new("RGB", (shape[1] * _SQUARE, shape[0] * _SQUARE))
    is_known = np.zeros(shape, bool)  # To be sound.
    for number, square in zip(numbers, squares, strict=True):
        row, column = divmod(number, _COLUMNS)
        whole.paste(Image.fromarray(read_image(square.path)), (column * _SQUARE, row * _SQUARE))
        is_known[row, column] = not square.is_cracked
    made = 0
    while made < _SOUND_VIEWS:
        side = _SQUARE * np.exp(rng.uniform(np.log(0.5), np.log(3)))
        left, top = rng.uniform(0, 1, 2) * (whole.width - side, whole.height - side)
        first, last = (np.array([top, left]) + x for x in (0, side - 1))
        rows, columns = (
            slice(int(a // _SQUARE), int(b // _SQUARE) + 1)
            for a, b in zip(first, last, strict=True)
        )
        # A crack may reach over the edge of its square, so a few pixels of sound ones are crack.
        if is_known[rows, columns].all():
            box = (left, top, left + side, top + side)
            view = whole.resize((_SQUARE, _SQUARE), Image.Resampling.BILINEAR, box)
            view.save(folder / f"{squares[0].photo}-{made:03}.jpg", quality=95)
            made += 1


def read_frames(folder: Path) -> list[Item]:
    """Drone frames with the masks of their cracks."""
    masks = {path.stem: path for path in (folder / "masks").iterdir()}
    items = []
    for path in sorted((folder / "images").iterdir()):
        if path.stem not in masks:
            raise UserError(f"{path}: has no mask in {folder / 'masks'}.")
        items.append(Item(path, True, path.stem, masks[path.stem]))
    return items


def cut_frames(frames: Iterable[Item], folder: Path, grid: int = 2) -> list[Item]:
    """Drone frames cut into patches, each labelled by its mask; what is in between is left out."""
    if not folder.exists():
        with writing(folder) as draft:
            draft.mkdir()
            for name in ("crack", "no_crack"):
                (draft / name).mkdir()
            for frame in frames:
                assert frame.mask is not None
                image, mask = read_image(frame.path), read_image(frame.mask)[..., 0] > 127
                if image.shape[:2] != mask.shape:
                    raise UserError(f"{frame.mask}: expected the size of {frame.path}.")
                side = min(mask.shape) // grid
                for place in np.ndindex(mask.shape[0] // side, mask.shape[1] // side):
                    at = tuple(slice(x * side, (x + 1) * side) for x in place)
                    share = mask[at].mean()
                    if share == 0 or share >= LEAST_CRACK:
                        kind = "crack" if share else "no_crack"
                        name = f"{frame.photo}-{place[0]}-{place[1]}.png"
                        Image.fromarray(image[at]).save(draft / kind / name)
    return [
        Item(path, path.parent.name == "crack", path.stem.rsplit("-", 2)[0])
        for path in sorted(folder.glob("*/*.png"))
    ]


def draw_sample(folder: Path, count: int) -> list[Item]:
    """Patches of the drawn sample."""
    if not folder.exists():
        write_sample(folder, count, _DRAWN_SEED)
    return [
        Item(path, path.parent.name == "Positive", f"{path.parent.name}/{path.name}")
        for path in sorted(folder.glob("*/*.jpg"))
    ]


def draw_jointed(folder: Path, count: int) -> list[Item]:
    """Drawn surfaces with joints and no crack, each kind in turn."""

    def draw(number: int, draft: Path) -> None:
        rng = np.random.default_rng((_DRAWN_SEED, 1, number))
        scene = JOINTED[number % len(JOINTED)]
        picture = photograph(rng, scene(rng, surface(rng, (227, 227))))
        name = f"{scene.__name__.strip('_')}-{number:04}.jpg"
        Image.fromarray(picture).save(draft / name, quality=90)

    if not folder.exists():
        with writing(folder) as draft:
            draft.mkdir()
            Parallel(n_jobs=cores())(delayed(draw)(i, draft.absolute()) for i in range(count))
    return [Item(path, False, path.name) for path in sorted(folder.iterdir())]
