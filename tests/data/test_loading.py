import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import save_noise
from crackclf.data import trees
from crackclf.data.loading import load_datasets, load_folds
from crackclf.errors import UserError
from crackclf.images.decode import read_image
from crackclf.images.resize import resize


def test_the_three_sets_are_stratified_and_share_nothing(make_folder):
    data = load_datasets(make_folder({"Negative": 20, "Positive": 40}), image_size=32)
    assert data.counts == {
        "train": {"Negative": 12, "Positive": 24},
        "validation": {"Negative": 4, "Positive": 8},
        "test": {"Negative": 4, "Positive": 8},
    }
    every = [path for files in data.files.values() for path in files]
    assert len(every) == len(set(every)) == 60


def test_batches_are_what_a_model_takes(make_folder):
    folder = make_folder({"Negative": 10, "Positive": 10})
    data = load_datasets(folder, image_size=32, batch_size=4)
    images, labels = next(iter(data.train))
    assert images.shape == (4, 32, 32, 3)
    assert images.dtype == "float32"
    assert images.numpy().max() > 200
    np.testing.assert_array_equal(labels.numpy().sum(axis=1), 1)


@pytest.mark.parametrize("subset", ["validation", "test"])
def test_files_and_labels_stand_in_the_order_of_the_batches(make_folder, subset):
    folder = make_folder({"Negative": 12, "Positive": 12})
    save_noise(folder / "Negative" / "000.png", 50, mode="RGBA")  # stands as PNG in the tree
    data = load_datasets(folder, image_size=40)
    images = np.concatenate([batch for batch, _ in getattr(data, subset)])
    labels = np.concatenate([batch.numpy().argmax(axis=1) for _, batch in getattr(data, subset)])
    np.testing.assert_array_equal(labels, data.labels[subset])
    for pixels, path in zip(images, data.files[subset], strict=True):
        np.testing.assert_array_equal(pixels, read_image(path))


def test_byte_identical_files_land_on_one_side(make_folder):
    folder = make_folder({"Negative": 30, "Positive": 30})
    for i in range(10):
        for copy in range(3):
            shutil.copy(folder / "Negative" / f"{i:03d}.png", folder / f"Negative/c{i}{copy}.png")
    data = load_datasets(folder, image_size=32)
    sides = [set(digests) for digests in data.digests.values()]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert len(data.files["train"]) + len(data.files["validation"]) + len(data.files["test"]) == 90


def test_files_of_one_photo_land_on_one_side(tmp_path: Path):
    for i in range(60):
        name = f"{7000 + i % 12}-{i:03d}.png"
        save_noise(tmp_path / ("crack" if i % 2 else "sound") / name, i)
    data = load_datasets(tmp_path, image_size=32, group_by=r"^(\d+)-")
    photos = {s: {path.name.split("-")[0] for path in files} for s, files in data.files.items()}
    assert not photos["train"] & photos["test"]
    assert not photos["train"] & photos["validation"]
    assert not photos["validation"] & photos["test"]


def test_the_same_seed_gives_the_same_split_and_order(make_folder):
    folder = make_folder({"Negative": 20, "Positive": 20})
    first, again, other = (load_datasets(folder, 32, seed=seed) for seed in (1, 1, 2))
    assert first.files == again.files
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.split == again.split != other.split
    for (a, _), (b, _) in zip(first.train, again.train, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_split_is_a_tree_that_a_person_can_look_at(make_folder):
    data = load_datasets(make_folder({"Negative": 10, "Positive": 10}), image_size=32)
    links = sorted((data.split / "test" / "Positive").iterdir())
    positives = [p for p in data.files["test"] if p.parent.name == "Positive"]
    assert [link.resolve() for link in links] == [path.resolve() for path in positives]


def test_training_sees_the_pixels_that_prediction_sees(tmp_path: Path):
    image = Image.effect_noise((40, 20), 60).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6
    for name in ("Negative", "Positive"):
        (tmp_path / name).mkdir()
        for i in range(6):
            save_noise(tmp_path / name / f"{i}.png", i + 10 * len(name))
    image.save(tmp_path / "Positive" / "turned.jpg", exif=exif)
    data = load_datasets(tmp_path, image_size=32)
    found = list(data.split.rglob("turned.jpg*"))
    assert [path.name for path in found] == ["turned.jpg.png"]
    np.testing.assert_array_equal(
        read_image(found[0]), read_image(tmp_path / "Positive" / "turned.jpg")
    )


def test_a_folder_already_split_is_used_as_it_is(make_folder, tmp_path, capsys):
    for subset, count in (("train", 6), ("validation", 3), ("test", 2)):
        make_folder({"Negative": count, "Positive": count}, f"whole/{subset}")
    data = load_datasets(tmp_path / "whole", image_size=32)
    assert {s: len(files) for s, files in data.files.items()} == {
        "train": 12,
        "validation": 6,
        "test": 4,
    }
    assert "byte for byte, in train" in capsys.readouterr().err  # the same noise in each


def test_the_split_table_names_every_file(make_folder):
    data = load_datasets(make_folder({"Negative": 5, "Positive": 5}), image_size=32)
    lines = data.split_table().splitlines()
    assert lines[0] == "subset,class,digest,file"
    assert len(lines) == 11
    assert lines[1].startswith("train,Negative,")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"validation_split": 0.0}, "above 0"),
        ({"validation_split": 0.6, "test_split": 0.4}, "leave something to train on"),
        ({"group_by": "^."}, "too few independent images"),
        ({"image_size": 0}, "image_size must be one number of pixels, at least 1"),
        ({"image_size": (32, 48)}, "images are square"),
        ({"group_by": "("}, "not a regular expression"),
        ({"group_by": "photo"}, "matches nothing"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(make_folder, arguments, words):
    folder = make_folder({"Negative": 10, "Positive": 10})
    with pytest.raises(UserError, match=words):
        load_datasets(folder, **arguments)


def test_a_tree_that_lacks_links_is_laid_out_anew(make_folder):
    """As in a data folder that was copied without its links."""
    folder = make_folder({"Negative": 10, "Positive": 10})
    data = load_datasets(folder, image_size=32)
    links = sorted(x.name for x in (data.split / "train" / "Negative").iterdir())
    (data.split / "train" / "Negative" / links[0]).unlink()
    again = load_datasets(folder, image_size=32)
    assert sorted(x.name for x in (again.split / "train" / "Negative").iterdir()) == links
    assert len(again.train) == 1


def test_on_a_disk_without_links_the_tree_holds_copies(make_folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.symlink", refuse)
    monkeypatch.setattr("os.link", refuse)
    data = load_datasets(make_folder({"Negative": 10, "Positive": 10}), image_size=32)
    found = sorted((data.split / "test" / "Positive").iterdir())
    assert not any(path.is_symlink() for path in found)
    assert [x.read_bytes() for x in found] == [x.read_bytes() for x in data.files["test"][2:]]
    assert len(list(data.train)) == 1


def test_names_that_a_disk_or_keras_would_not_take_get_others(make_folder):
    folder = make_folder({"Negative": 10, "Positive": 10})
    names = ["x" * 251 + ".png", "y" * 251 + ".gif", os.fsdecode(b"stra\xdfe.png"), "a\nb.png"]
    for number, name in enumerate(names):
        image = Image.open(folder / "Positive" / f"{number:03}.png").convert("L")
        (folder / "Positive" / f"{number:03}.png").unlink()
        with (folder / "Positive" / name).open("xb") as file:
            image.save(file, name[-3:])
    data = load_datasets(folder, image_size=32)
    for subset in ("train", "validation", "test"):
        shown = np.concatenate([x.numpy() for x, _ in read_in_order(data, subset)])
        expected = [resize(read_image(path), 32, 32) for path in data.files[subset]]
        np.testing.assert_allclose(shown, expected, atol=1e-3)


def read_in_order(data, subset):
    """The batches of a set in the order of its files, the training set's, too."""
    args = (data.class_names, data.image_size, data.batch_size, data.seed)
    folder = data.split / subset
    if subset == "train":
        folder = folder.rename(folder.with_name("in-order"))
    yield from trees.read_tree(folder, data.images[subset], *args)


def test_files_swapped_between_classes_are_noticed_whatever_their_size_and_time(make_folder):
    folder = make_folder({"Negative": 5, "Positive": 5})
    files = [folder / name / "000.png" for name in ("Negative", "Positive")]
    contents = [Image.new("L", (8, 8), value).tobytes() for value in (1, 2)]
    for file, content in zip(files, contents, strict=True):
        Image.frombytes("L", (8, 8), content).save(file)
        os.utime(file, ns=(0, 0))
    assert len({file.stat().st_size for file in files}) == 1
    before = load_datasets(folder, image_size=32)
    files[0].rename(aside := folder / "aside.png")
    files[1].rename(files[0])
    aside.rename(files[1])
    after = load_datasets(folder, image_size=32)
    assert before.fingerprint != after.fingerprint


def test_a_split_tree_that_someone_added_to_is_noticed(make_folder):
    folder = make_folder({"Negative": 10, "Positive": 10})
    data = load_datasets(folder, image_size=32)
    save_noise(data.split / "train" / "Negative" / "more.png", 99)
    with pytest.raises(UserError, match=r"delete .* and run again"):
        _ = load_datasets(folder, image_size=32).train


def test_the_counts_are_what_one_sees_of_it(make_folder):
    data = load_datasets(make_folder({"Negative": 10, "Positive": 20}), image_size=32)
    assert repr(data) == (
        "Datasets(train: 6 Negative, 12 Positive; validation: 2 Negative, 4 Positive; "
        "test: 2 Negative, 4 Positive; images of 32 pixels in batches of 32)"
    )


def test_a_size_of_two_equal_sides_is_understood(make_folder):
    folder = make_folder({"Negative": 5, "Positive": 5})
    assert load_datasets(folder, image_size=(32, 32)).image_size == 32


def test_nothing_of_tensorflow_is_needed_to_split(make_folder):
    folder = make_folder({"Negative": 5, "Positive": 5})
    code = (
        "import sys; sys.modules.update(tensorflow=None, keras=None); import crackclf; "
        f"print(crackclf.load_datasets({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("Datasets(train: 3 Negative"), done.stderr


def test_two_equal_splits_laid_out_at_once_are_one(make_folder, monkeypatch):
    folder = make_folder({"Negative": 5, "Positive": 5})
    place, others = trees._place, []

    def held_up(*arguments):
        if not others:
            others.append("")
            others[0] = load_datasets(folder, image_size=32)  # Which is faster.
        place(*arguments)

    monkeypatch.setattr(trees, "_place", held_up)
    assert load_datasets(folder, image_size=32).split == others[0].split


def test_each_image_is_tested_on_in_one_fold_and_watched_in_another(make_folder):
    images = make_folder({"a": 12, "crack": 9, "c": 7})
    folds, everything = load_folds(images, folds=3, image_size=32)
    names = sorted(path for path in images.glob("*/*.png"))
    for subset in ("test", "validation"):
        assert sorted(path for data in folds for path in data.files[subset]) == names
    for data in folds:
        parts = [set(data.files[subset]) for subset in ("train", "validation", "test")]
        assert set.union(*parts) == set(names)
        assert sum(map(len, parts)) == len(names)
        assert data.counts["test"] in ({"a": 4, "c": n, "crack": 3} for n in (2, 3))
    assert sorted(everything.files["train"]) == names
    assert everything.counts["validation"] == {"a": 0, "c": 0, "crack": 0}
    again, _ = load_folds(images, folds=3, image_size=32)
    assert [data.files for data in again] == [data.files for data in folds]


def test_what_belongs_together_is_in_one_fold(make_folder):
    images = make_folder({"Negative": 12, "Positive": 12})
    for name in ("Negative", "Positive"):
        shutil.copy(images / name / "000.png", images / name / "copy.png")
    alike = {images / "Negative" / f"{i:03d}.png": "wall" for i in (1, 2, 3)}
    folds, _ = load_folds(images, folds=4, image_size=32, groups=alike)
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
