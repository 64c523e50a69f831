import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import save_noise
from crackclf.audit import files as audit
from crackclf.audit.files import audit_files, group_alike


@pytest.fixture
def images(make_folder):
    """Smooth noise in two classes of four."""
    folder = make_folder({"Negative": 0, "Positive": 0})
    for i in range(8):
        path = folder / ("Negative", "Positive")[i % 2] / f"{i}.png"
        coarse = Image.open(save_noise(path, i, size=(8, 8)))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return folder


def test_a_clean_folder_has_no_findings(images):
    found = audit_files(images)
    assert found.counts == {"Negative": 4, "Positive": 4}
    assert found.sizes == {"64 x 64": 8}
    assert found.modes == {"RGB": 8}
    nothing = (found.problems, found.turned, found.copies, found.near_copies)
    assert not any([*nothing, found.contradictions, found.leaks])


def test_copies_and_pictures_that_look_alike_are_told_apart(images):
    shutil.copy(images / "Negative" / "0.png", images / "Negative" / "copy.png")
    Image.open(images / "Positive" / "1.png").save(images / "Negative" / "again.jpg", quality=70)
    found = audit_files(images)
    assert found.copies == (("Negative/0.png", "Negative/copy.png"),)
    assert found.near_copies == (("Negative/again.jpg", "Positive/1.png"),)
    assert found.contradictions == found.near_copies


def test_problems_of_single_files_are_named(images):
    (images / "Negative" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("L", (30, 20), 99).save(images / "Positive" / "grey.png")
    turned = Image.open(images / "Negative" / "2.png")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.rotate(17).save(images / "Negative" / "turned.jpg", exif=exif)
    found = audit_files(images)
    assert list(found.problems) == ["Negative/broken.jpg"]
    assert found.sizes == {"64 x 64": 9, "30 x 20": 1}
    assert found.modes == {"RGB": 9, "L": 1}
    assert found.turned == ("Negative/turned.jpg",)


def test_a_picture_in_two_sets_is_a_leak(images, tmp_path):
    for subset in ("train", "validation", "test"):
        shutil.copytree(
            images, tmp_path / "split" / subset, ignore=shutil.ignore_patterns(".crackclf")
        )
    found = audit_files(tmp_path / "split")
    assert len(found.leaks) == 8
    assert found.leaks[0] == tuple(f"{x}/Negative/0.png" for x in ("train", "validation", "test"))


def test_groups_join_over_blocks(monkeypatch):
    monkeypatch.setattr(audit, "_BLOCK", 2)
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (6, 32), np.uint8)
    chain = [looks[0].copy() for _ in range(4)]
    for step, look in enumerate(chain):  # Each 12 bits from the one before it.
        look[: 3 * step] ^= 0x0F
    apart = [look.tobytes().hex() for look in looks[1:]]
    order = [chain[3], *looks[1:3], chain[1], *looks[3:], chain[0], chain[2]]
    groups = group_alike([look.tobytes().hex() for look in order])
    alike = [0, 3, 7, 8]
    assert len({groups[i] for i in alike}) == 1
    assert len(set(groups.tolist())) == 1 + len(apart)


def test_a_film_of_alike_pictures_is_one_group():
    assert len(set(group_alike(["00" * 32] * 700).tolist())) == 1
