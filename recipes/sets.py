"""The images on which the network is trained and measured, without a photo on two sides."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

import drawn
from crackclf.data import load_datasets
from crackclf.files import cores, writing
from crackclf.images import read_image
from drawn_concrete.make import make_patch, make_photo

# Photos of SDNET2018 by subset.
_VALIDATION = (
    "D_7025 D_7038 D_7049 D_7054 P_002 P_011 P_027 P_035 P_045 P_046 P_051 P_062 P_076 P_082 "
    "W_7081 W_7094 W_7107 W_7115 W_7125"
)
_TEST = (
    "D_7012 D_7013 D_7029 D_7035 D_7037 D_7051 P_001 P_003 P_009 P_010 P_016 P_038 P_064 P_068 "
    "P_071 P_073 P_086 P_100 P_103 W_7079 W_7090 W_7096 W_7105 W_7109 W_7131 W_7138"
)
_SUBSET = dict.fromkeys(_VALIDATION.split(), "validation") | dict.fromkeys(_TEST.split(), "test")
_COLUMNS, SQUARE = 18, 256  # Of a whole photo of SDNET2018.
_SOUND_VIEWS = 600  # Cut from each whole photo.
_BLOCK = 60  # Numbers of drone frames that stay together: neighbours show the same place.
_LEAST_CRACK = 0.003  # Share of a drone patch; with less, the crack only touches its edge.
_TESTED = 1800  # Drawn images of each kind, half to validate and half to test on.
_TEST_SEED = 90_000  # No seed of the training.
_JOINTED_TEXTURES = ("Bricks", "PavingStones", "Planks", "Tiles")


@dataclass(frozen=True)
class Item:
    """One image and what is known of it."""

    path: Path
    is_cracked: bool
    photo: str  # That it was cut from; its own name where that is not known.
    mask: Path | None = None  # Of its cracks.
    tiles: bool = False  # Whether it is a texture that is repeated.


Set = dict[str, list[Item]]


class Sets(NamedTuple):
    """Images by name: to learn from, to choose temperature and threshold by, and to test on."""

    train: Set
    validation: Set
    test: Set


def read_sets(out: Path, data: Path, scale: float = 1.0, seed: int = 0) -> Sets:
    """Reads the folders of DATA, and draws and cuts into OUT what is not there yet."""
    metu, textures = read_metu(data / "metu", seed), read_textures(data / "textures")
    sdnet = read_sdnet(data / "sdnet2018", data / "sdnet2018-relabelled.csv")
    frames = read_frames(data / "uav", out / "masks")
    real = [x.path for x in (*metu["train"], *sdnet["train"]) if not x.is_cracked]
    real += 8 * [x.path for x in textures["train"]]  # There are few.
    draws = {
        "concrete": (drawn.draw_concrete, 5000, 0.3),
        "jointed": (drawn.draw_jointed, 5000, 0.5),
        "real": (partial(drawn.draw_on_real, grounds=real), 6000, 0.15),
    }
    train = {"metu": metu["train"], "drone": frames["train"], "textures": textures["train"]}
    for kind, name in (True, "sdnet cracked"), (False, "sdnet sound"):
        train[name] = [x for x in sdnet["train"] if x.is_cracked == kind]
    for number, (name, (draw, count, sound)) in enumerate(draws.items()):
        count = max(100, int(count * scale))
        train[name] = write_scenes(out / name, draw, count, (seed, number), sound)
    squares = [x for x in sdnet["whole"] if x.photo not in _SUBSET]
    train["sound"] = cut_sound(squares, out / "sound", max(5, int(_SOUND_VIEWS * scale)), seed)

    joints = partial(drawn.draw_jointed, side=227, plain=True)
    validation, test = {}, {}
    for number, (name, draw) in enumerate((("drawn", make_patch), ("joints", joints))):
        count = max(200, int(_TESTED * scale))
        found = write_scenes(out / name, draw, count, (_TEST_SEED, number), 0.5)
        half = count // 200 * 100  # Every hundred has the share of sound ones.
        validation[name], test[name] = found[:half], found[half:]
    test["photos"] = write_scenes(out / "photos", make_photo, 20, (_TEST_SEED, 2), 0.0)
    cut = cut_frames([x for part in frames.values() for x in part], out / "drone")
    for part, name in (validation, "validation"), (test, "test"):
        part["metu"], part["textures"] = metu[name], textures[name]
        part["drone"] = [x for x in cut if x.photo in {frame.photo for frame in frames[name]}]
        part |= {kind: [x for x in sdnet[name] if x.photo[0] == kind] for kind in "DPW"}
    test |= {"sdnet": sdnet["test"], "sdnet as published": sdnet["as published"]}
    test["whole"] = [x for x in sdnet["whole"] if _SUBSET.get(x.photo) == "test"]
    test["frames"] = frames["test"]
    return Sets(train, validation, test)


def write_scenes(
    folder: Path, draw: Callable[..., drawn.Scene], count: int, seed: tuple[int, int], sound: float
) -> list[Item]:
    """Draws scenes with their masks into a folder, once; a share of them is sound."""
    is_cracked = [number % 100 >= 100 * sound for number in range(count)]

    def write(draft: Path, number: int) -> None:
        image, mask = draw(np.random.default_rng((*seed, number)), is_cracked[number])
        Image.fromarray(image).save(draft / "images" / f"{number:05}.jpg", quality=92)
        Image.fromarray(drawn.mark_centre(mask)).save(draft / "masks" / f"{number:05}.png")

    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with writing(folder) as draft:
            for name in ("images", "masks"):
                (draft / name).mkdir(parents=True)
            jobs = (delayed(write)(draft.absolute(), number) for number in range(count))
            done = Parallel(n_jobs=cores(), return_as="generator_unordered")(jobs)
            for _ in tqdm(done, f"Drawing {folder.name}", count, unit=" scenes"):
                pass
    images, masks = (sorted((folder / name).iterdir()) for name in ("images", "masks"))
    parts = zip(images, is_cracked, masks, strict=True)
    return [Item(image, cracked, image.stem, mask) for image, cracked, mask in parts]


def read_metu(folder: Path, seed: int) -> Set:
    """METU; byte-identical files are on one side of the split."""
    data = load_datasets(folder, 160, 32, 0.1, 0.2, seed)
    cracked, sets = data.class_names.index("Positive"), data.images.items()
    return {k: [Item(x.path, x.label == cracked, x.path.name) for x in v] for k, v in sets}


def read_sdnet(folder: Path, changes: Path) -> Set:
    """SDNET2018 by photo, with its labels put right; "as published" is "test" with the old ones.

    Photos that are there whole are in "whole" as well.
    """
    with changes.open(newline="", encoding="utf-8") as file:
        right = {row["name"]: row["relabelled"] for row in csv.DictReader(file)}
    items = []
    for path in sorted(folder.glob("*/*.jpg")):
        items.append(Item(path, path.parent.name == "crack", path.stem.split("-")[0]))
    counts = Counter(item.photo for item in items)
    found: Set = defaultdict(list)
    for item in items:
        subset = _SUBSET.get(item.photo, "train")
        label = right.get(item.path.name, item.path.parent.name)
        item_now = replace(item, is_cracked=label == "crack")
        found["as published"] += [item] * (subset == "test")
        found[subset] += [item_now] * (label != "removed")
        found["whole"] += [item if label == "removed" else item_now] * (counts[item.photo] > 200)
    return found


def read_textures(folder: Path) -> Set:
    """Textures, which tile: of each kind a quarter for the tests, and an eighth to validate."""
    found: Set = defaultdict(list)
    for kind in sorted(folder.iterdir()):
        for number, path in enumerate(sorted(kind.iterdir())):
            subset = {1: "validation", 3: "test", 7: "test"}.get(number % 8, "train")
            if kind.name in _JOINTED_TEXTURES or subset == "train":
                found[subset].append(Item(path, False, f"{kind.name}/{path.stem}", tiles=True))
    return found


def cut_sound(squares: Iterable[Item], folder: Path, count: int, seed: int) -> list[Item]:
    """Views of whole photos at any place and scale, away from squares with a crack."""
    if not folder.exists():
        by_photo = defaultdict(list)
        for square in squares:
            by_photo[square.photo].append(square)
        with writing(folder) as draft:
            draft.mkdir()
            for number, photo in enumerate(sorted(by_photo)):
                _cut_photo(by_photo[photo], draft, count, np.random.default_rng((seed, number)))
    return [Item(x, False, x.name.rsplit("-", 1)[0]) for x in sorted(folder.iterdir())]


def join_squares(squares: list[Item]) -> tuple[Image.Image, np.ndarray]:
    """A whole photo of its squares, and which of these are known to be sound."""
    numbers = [int(re.findall(r"-(\d+)", x.path.name)[0]) - 1 for x in squares]
    shape = (max(numbers) // _COLUMNS + 1, _COLUMNS)
    whole = Image.new("RGB", (shape[1] * SQUARE, shape[0] * SQUARE))
    is_sound = np.zeros(shape, bool)
    for number, square in zip(numbers, squares, strict=True):
        row, column = divmod(number, _COLUMNS)
        whole.paste(Image.fromarray(read_image(square.path)), (column * SQUARE, row * SQUARE))
        is_sound[row, column] = not square.is_cracked
    return whole, is_sound


def _cut_photo(squares: list[Item], folder: Path, count: int, rng: np.random.Generator) -> None:
    whole, is_sound = join_squares(squares)
    # A crack may reach over the edge of its square.
    is_sound = ndimage.binary_erosion(is_sound, np.ones((3, 3)), border_value=1)
    made = 0
    for _ in range(50 * count):
        side = SQUARE * np.exp(rng.uniform(np.log(0.5), np.log(3)))
        left, top = rng.uniform(0, 1, 2) * (whole.width - side, whole.height - side)
        rows, columns = (
            slice(int(x // SQUARE), int((x + side) // SQUARE) + 1) for x in (top, left)
        )
        if made < count and is_sound[rows, columns].all():
            box = (left, top, left + side, top + side)
            view = whole.resize((SQUARE, SQUARE), Image.Resampling.BILINEAR, box)
            view.save(folder / f"{squares[0].photo}-{made:03}.jpg", quality=95)
            made += 1


def read_frames(folder: Path, masks: Path) -> Set:
    """Drone frames with the masks of their cracks, neighbours in one subset."""
    found: Set = defaultdict(list)
    drawn_masks = {path.stem: path for path in (folder / "masks").iterdir()}
    masks.mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "images").iterdir()):
        file = masks / f"{path.stem}.png"
        if not file.exists():
            mask = read_image(drawn_masks[path.stem])[..., 0] > 127
            with writing(file) as draft:
                Image.fromarray(drawn.mark_centre(mask)).save(draft, "PNG")
        block = int(re.findall(r"\d+", path.stem)[0]) // _BLOCK
        subset = {1: "test", 3: "validation"}.get(block % 5, "train")
        found[subset].append(Item(path, True, path.stem, file))
    return found


def cut_frames(frames: Iterable[Item], folder: Path, grid: int = 2) -> list[Item]:
    """Drone frames cut into patches, each labelled by its mask; what is in between is left out."""
    if not folder.exists():
        with writing(folder) as draft:
            for name in ("crack", "no_crack"):
                (draft / name).mkdir(parents=True)
            for frame in frames:
                image, mask = read_image(frame.path), np.asarray(Image.open(frame.mask)) > 0
                side = min(mask.shape) // grid
                for place in np.ndindex(mask.shape[0] // side, mask.shape[1] // side):
                    at = tuple(slice(x * side, (x + 1) * side) for x in place)
                    share = mask[at].mean()
                    if share == 0 or share >= _LEAST_CRACK:
                        kind = "crack" if share else "no_crack"
                        name = f"{frame.photo}-{place[0]}-{place[1]}.png"
                        Image.fromarray(image[at]).save(draft / kind / name)
    return [
        Item(path, path.parent.name == "crack", path.stem.rsplit("-", 2)[0])
        for path in sorted(folder.glob("*/*.png"))
    ]
