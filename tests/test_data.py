import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import make_exif, save_noise
from crackclf.data import load_datasets, load_folds
from crackclf.errors import UserError
from crackclf.folders import read_folder
from crackclf.images import read_image, resize


def assert_apart(sets) -> None:
    """No element is in two of the sets."""
    assert len(set.union(*sets)) == sum(map(len, sets))


def read_all(data, subset):
    """The pixels and the labels of a subset in the order of its files."""
    batches = [(x.numpy(), y.numpy().argmax(1)) for x, y in data.read(subset)]
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def test_the_three_sets_are_stratified_and_share_nothing(make_folder):
    data = load_datasets(make_folder({"Negative": 20, "Positive": 40}), image_size=(32, 32))
    assert data.counts == {
        "train": {"Negative": 12, "Positive": 24},
        "validation": {"Negative": 4, "Positive": 8},
        "test": {"Negative": 4, "Positive": 8},
    }
    every = [path for files in data.files.values() for path in files]
    assert len(every) == len(set(every)) == 60
    lines = data.split_table().splitlines()
    assert (lines[0], len(lines)) == ("subset,class,digest,file", 61)
    links = [link.resolve() for link in sorted((data.split / "test").glob("*/*"))]
    assert links == [path.resolve() for path in data.files["test"]]
    save_noise(data.split / "train" / "Negative" / "more.png", 99)
    with pytest.raises(UserError, match=rf"delete {data.split}"):
        _ = data.train


def test_batches_are_what_a_model_takes_and_training_sees_them_in_another_order(make_folder):
    folder = make_folder({"Negative": 10, "Positive": 10})
    data, again, other = (load_datasets(folder, 32, 4, seed=seed) for seed in (1, 1, 2))
    assert data.files == again.files
    assert data.fingerprint == again.fingerprint != other.fingerprint
    images, labels = next(iter(other.train))
    assert images.shape == (4, 32, 32, 3)
    assert images.dtype == "float32"
    assert images.numpy().max() > 200
    np.testing.assert_array_equal(labels.numpy().sum(axis=1), 1)
    sets = (data, data, again)  # The last one begins anew, as the first did.
    orders = [np.concatenate([x.numpy().sum((1, 2, 3)) for x, _ in one.train]) for one in sets]
    assert not np.array_equal(*orders[:2])
    np.testing.assert_array_equal(*map(np.sort, orders[:2]))
    np.testing.assert_array_equal(orders[0], orders[2])


def test_pixels_and_labels_stand_in_the_order_of_the_files_whatever_their_kind(make_folder):
    folder = make_folder({"Negative": 12, "Positive": 8})
    save_noise(folder / "Negative" / "000.png", 50, mode="RGBA")
    save_noise(folder / "Negative" / "cmyk.jpg", 51, mode="CMYK")
    for suffix in ("tif", "webp", "bmp", "jpg"):
        save_noise(folder / "Positive" / f"c.{suffix}", 52)
    (folder / "Positive" / "c.jpg").rename(folder / "Positive" / "c.jfif")
    clear = Image.new("RGB", (4, 4))
    clear.putpixel((0, 0), (9, 9, 9))
    clear.save(folder / "Positive/clear.png", transparency=(0, 0, 0))
    Image.new("RGB", (9, 5), "red").save(folder / "Negative/turned.jpg", exif=make_exif({274: 6}))
    shutil.copy(folder / "Negative/001.png", folder / "Negative/turned.jpg.png")
    shutil.copy(folder / "Negative/002.png", folder / "Negative/turned.png")
    for name in ("x" * 251 + ".png", "y" * 251 + ".gif", os.fsdecode(b"stra\xdfe.png"), "a\nb.png"):
        with (folder / "Positive" / name).open("xb") as file:
            Image.effect_noise((40, 40), 60).convert("L").save(file, name[-3:])
    data = load_datasets(folder, image_size=40)
    assert sum(map(len, data.files.values())) == 33
    for subset, files in data.files.items():
        pixels, labels = read_all(data, subset)
        np.testing.assert_array_equal(labels, data.labels[subset])
        for shown, path in zip(pixels, files, strict=True):
            np.testing.assert_allclose(shown, resize(read_image(path), 40, 40), atol=1e-2)


def test_copies_and_files_of_one_photo_land_on_one_side(make_folder, tmp_path):
    folder = make_folder({"Negative": 30, "Positive": 30})
    for i in range(10):
        for copy in range(3):
            shutil.copy(folder / "Negative" / f"{i:03d}.png", folder / f"Negative/c{i}{copy}.png")
    data = load_datasets(folder, image_size=32)
    assert_apart([set(digests) for digests in data.digests.values()])
    assert sum(map(len, data.files.values())) == 90
    for i in range(60):
        name = f"{7000 + i % 12}-{i:03d}.png"
        save_noise(tmp_path / "photos" / ("crack" if i % 2 else "sound") / name, i)
    data = load_datasets(tmp_path / "photos", image_size=32, group_by=r"^(\d+)-")
    assert_apart([{x.name.split("-")[0] for x in files} for files in data.files.values()])


ENDINGS = [("_jpg.rf.0123456789abcdef", "_jpg.rf.fedcba9876543210"), ("_aug_1", "_aug_2")]
ENDINGS += [("-rot90", "-rot180"), ("_hflip", "_vflip"), ("_crop1_flipped", "_mirrored")]


@pytest.mark.parametrize("endings", ENDINGS)
def test_augmented_copies_stay_with_their_source(endings, make_folder, capsys):
    folder = make_folder({"Negative": 12, "Positive": 12})
    for path in sorted(folder.glob("*/*.png")):
        for turn, ending in enumerate(endings):
            turned = Image.open(path).transpose(Image.Transpose(turn))
            turned.save(path.with_name(f"{path.stem}{ending}.png"))
    data = load_datasets(folder, 32, seed=1)
    subset_of = {path: subset for subset, files in data.files.items() for path in files}
    for source in [path for path in subset_of if path.stem.isdigit()]:
        copies = [source.with_name(f"{source.stem}{ending}.png") for ending in endings]
        assert {subset_of[path] for path in copies} == {subset_of[source]}
    assert "72 images, e.g. " in capsys.readouterr().err


def test_numbered_names_tell_of_no_source(make_folder, capsys):
    folder = make_folder({"Negative": 20, "Positive": 20})
    for path in sorted(folder.glob("*/*.png")):
        path.rename(path.with_name(f"crack ({int(path.stem)}).png"))
    load_datasets(folder, 32)
    assert capsys.readouterr().err.count("source") == 0


def test_a_picture_in_both_classes_is_told_of(make_folder, capsys):
    folder = make_folder({"Negative": 20, "Positive": 20})
    shutil.copy(folder / "Positive" / "003.png", folder / "Negative" / "twin.png")
    load_datasets(folder, 32)
    assert "are in both classes as byte-identical files" in capsys.readouterr().err


def test_what_crackclf_has_written_into_a_data_folder_is_no_class(make_folder):
    folder = make_folder({"Negative": 20, "Positive": 20})
    for name, file in (("model", "card.json"), ("odd", "findings.csv")):
        (folder / name).mkdir()
        (folder / name / file).write_text("")
    assert load_datasets(folder, 32).class_names == ("Negative", "Positive")


@pytest.mark.usefixtures("poor_disk")
def test_on_a_disk_without_links_the_split_holds_files(make_folder):
    data = load_datasets(make_folder({"Negative": 10, "Positive": 10}), image_size=32)
    found = sorted((data.split / "test" / "Positive").iterdir())
    assert not any(path.is_symlink() for path in found)
    assert [x.read_bytes() for x in found] == [x.read_bytes() for x in data.files["test"][2:]]


def test_two_equal_splits_laid_out_at_once_are_one(make_folder, monkeypatch):
    folder = make_folder({"Negative": 5, "Positive": 5})
    link, others = os.symlink, []

    def held_up(*arguments, **options):
        if not others:
            others.append(None)
            others[0] = load_datasets(folder, image_size=32)  # The other one is faster.
        link(*arguments, **options)

    monkeypatch.setattr(os, "symlink", held_up)
    assert load_datasets(folder, image_size=32).split == others[0].split
    assert len(list(others[0].split.parent.iterdir())) == 1


def test_the_cache_keeps_the_newest_splits_and_nothing_of_other_versions(make_folder):
    folder = make_folder({"Negative": 20, "Positive": 20})
    (folder / ".crackclf" / "older").mkdir(parents=True)
    first = load_datasets(folder, 32, seed=0).split
    for seed in range(1, 10):
        load_datasets(folder, 32, seed=seed)
        assert load_datasets(folder, 32, seed=0).split == first  # Used again, so it stays.
    assert len(list((folder / ".crackclf" / "splits").iterdir())) == 8
    assert first.exists()
    assert {x.name for x in (folder / ".crackclf").iterdir()} == {"checked-7.json", "splits"}


def test_a_folder_already_split_is_used_as_it_is_and_its_leaks_are_named(
    make_folder, tmp_path, capsys
):
    for subset, count in (("train", 6), ("validation", 3), ("test", 2)):
        make_folder({"Negative": count, "Positive": count}, f"whole/{subset}")
    folder = tmp_path / "whole"
    data = load_datasets(folder, image_size=32)
    assert [len(files) for files in data.files.values()] == [12, 6, 4]
    # All subsets hold the same noise.
    assert "4 images of test are copies of images of train" in capsys.readouterr().err
    save_noise(folder / "test" / "Negative" / "07.png", 99)
    load_datasets(folder, image_size=32, group_by="^0")
    assert "5 images of test are copies of images of train, or in one" in capsys.readouterr().err
    with pytest.raises(UserError, match="is split already"):
        load_datasets(folder, validation_split=0.1)
    _, everything = load_folds(folder, folds=3, image_size=32)
    assert len(read_all(everything, "train")[0]) == 23


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"validation_split": 0.0}, "a share above 0"),
        ({"validation_split": 0.6, "test_split": 0.4}, "a share above 0"),
        ({"group_by": "^."}, "an independent image of each class"),
        ({"image_size": 0}, "image_size must be one number of pixels, at least 1"),
        ({"image_size": (32, 48)}, "images are square"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"group_by": "("}, "not a regular expression"),
        ({"group_by": "photo"}, "matches nothing"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(make_folder, arguments, words):
    folder = make_folder({"Negative": 10, "Positive": 10})
    with pytest.raises(UserError, match=words):
        load_datasets(folder, **arguments)


def test_each_image_is_tested_on_in_one_fold_and_watched_in_another(make_folder):
    images = make_folder({"a": 12, "crack": 9, "c": 7})
    folds, everything = load_folds(images, folds=3, image_size=32)
    names = sorted(path for path in images.glob("*/*.png"))
    for subset in ("test", "validation"):
        assert sorted(path for data in folds for path in data.files[subset]) == names
    for data in folds:
        assert_apart([set(files) for files in data.files.values()])
        assert sum(map(len, data.files.values())) == len(names)
        assert data.counts["test"] in ({"a": 4, "c": n, "crack": 3} for n in (2, 3))
    assert sorted(everything.files["train"]) == names
    assert everything.counts["validation"] == {"a": 0, "c": 0, "crack": 0}


def draw_smooth(rng) -> Image.Image:
    coarse = rng.integers(60, 190, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def test_several_cracked_folders_become_one_class(make_folder):
    folder = make_folder({"hairline": 10, "none": 10, "wide": 10})
    data = load_datasets(folder, image_size=32, positive="hairline,wide")
    assert data.class_names == ("hairline,wide", "none")
    assert sum(x["hairline,wide"] for x in data.counts.values()) == 20
    assert {x.parent.name for x in data.files["train"][:3]} <= {"hairline", "wide"}
    assert next(iter(data.test))[1].shape[1] == 2
    assert load_datasets(folder, image_size=32, positive="hairline, wide").labels["test"].size == 6
    for positive in ("hairline,deep", "hairline,wide,none"):
        with pytest.raises(UserError, match=f"not all: hairline, none, wide. Received: {positive}"):
            load_datasets(folder, image_size=32, positive=positive)


def test_what_belongs_together_is_in_one_fold(make_folder):
    images = make_folder({"Negative": 12, "Positive": 12})
    for name in ("Negative", "Positive"):
        shutil.copy(images / name / "000.png", images / name / "copy.png")
    wall = draw_smooth(np.random.default_rng(0))
    wall.save(images / "Negative" / "001.png")
    wall.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(images / "Negative" / "002.png")
    wall.transpose(Image.Transpose.ROTATE_90).resize((50, 50)).save(images / "Negative" / "003.png")
    folds, _ = load_folds(images, folds=4, image_size=32, group_look_alikes=True)
    for together in ({"000.png", "copy.png"}, {"001.png", "002.png", "003.png"}):
        tested = [[x.name for x in data.files["test"] if "Neg" in x.parent.name] for data in folds]
        found = [together & {*names} for names in tested]
        assert [x for x in found if x] == [together]


def test_too_few_images_for_the_folds_are_counted(make_folder):
    images = make_folder({"Negative": 9, "Positive": 4})
    with pytest.raises(UserError, match="Positive: has 4 independent images, too few for 5 folds"):
        load_folds(images, folds=5)
    with pytest.raises(UserError, match="folds must be 3 or more"):
        load_folds(images, folds=2)


@pytest.mark.real_data
def test_real_copies_are_kept_on_one_side(real_data: Path):
    images, _, _ = read_folder(real_data / "metu")
    _, counts = np.unique([image.digest for image in images], return_counts=True)
    assert len(images) == 10_000
    assert (counts > 1).sum() == 66 + 308
    metu = load_datasets(real_data / "metu", validation_split=0.2375, test_split=0.0125)
    assert_apart([set(found) for found in metu.digests.values()])
    assert metu.counts["validation"] == {"Negative": 1188, "Positive": 1188}
