import shutil

import numpy as np
import pytest
from PIL import Image

from conftest import build_card
from crackclf.data.folders import read_folder
from crackclf.errors import UserError
from crackclf.prediction.evaluate import evaluate
from several import CRACKED, JOINT, SEVERAL, SPALLED


@pytest.fixture
def bridge(tmp_path):
    for name, level in (("damaged", 20), ("fine", 240)):
        (tmp_path / "bridge" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (40, 40), level + i).save(tmp_path / "bridge" / name / f"{i}.png")
    return tmp_path / "bridge"


def test_class_folders_of_other_names_need_to_be_told(bridge, classifier):
    with pytest.raises(UserError, match="--positive"):
        evaluate(bridge, classifier)
    report = evaluate(bridge, classifier, positive="damaged")
    assert report.class_names == ("Negative", "Positive")
    assert report.confusion_matrix == ((3, 0), (0, 3))
    assert evaluate(bridge, classifier, positive="fine").accuracy == 0


def test_the_models_own_names_need_no_telling(bridge, classifier):
    (bridge / "damaged").rename(bridge / "Positive")
    (bridge / "fine").rename(bridge / "Negative")
    assert evaluate(bridge, classifier).accuracy == 1


def test_images_without_folders_are_measured_by_their_labels(bridge, classifier):
    report = evaluate(bridge, classifier, labels=["Positive"] * 2 + ["Negative"] * 4)
    assert (report.n, report.confusion_matrix) == (6, ((3, 1), (0, 2)))
    assert [x.file for x in report.misclassified] == [str(bridge / "damaged" / "2.png")]
    arrays = np.full((2, 40, 40, 3), [[[[240]]], [[[20]]]], np.uint8)
    assert evaluate(arrays, classifier, labels=["Negative", "Positive"]).accuracy == 1


@pytest.mark.parametrize("labels", [["Positive"], ["crack"] * 6, None])
def test_labels_that_do_not_fit_the_images_are_refused(labels, bridge, classifier):
    images = [bridge] if labels is None else bridge
    with pytest.raises(UserError, match=r"expected a (label for each|folder with one sub-folder)"):
        evaluate(images, classifier, labels=labels)


def test_an_image_that_cannot_be_read_ends_it_or_is_left_out(bridge, classifier, capsys):
    broken = bridge / "fine" / "1.png"
    broken.write_bytes(b"")
    with pytest.raises(UserError, match=r"fine/1\.png: is empty"):
        evaluate(bridge, classifier, positive="damaged")
    with pytest.raises(UserError, match=r"fine/1\.png: .*is empty"):
        evaluate(bridge, classifier, labels=["Positive"] * 6)
    assert evaluate(bridge, classifier, positive="damaged", skip_unreadable=True).n == 5
    assert str(broken) in capsys.readouterr().err


def test_images_seen_in_training_are_counted_aloud(
    bridge, classifier, save_keras, tmp_path, capsys
):
    folder = save_keras(tmp_path / "model", build_card())
    digests = [image.digest for image in read_folder(bridge)[0]]
    (folder / "split.csv").write_text(
        f"subset,class,digest,file\ntrain,a,{digests[0]},x\ntest,a,{digests[1]},x\n"
    )
    capsys.readouterr()
    assert evaluate(bridge, folder, positive="damaged").accuracy == 1
    assert "1 of 6 images" in capsys.readouterr().err
    evaluate(bridge, classifier, positive="damaged")
    assert capsys.readouterr().err == ""
    for damage in (b"\xff\0", b"", b"no,such,column\n1,2,3\n"):
        (folder / "split.csv").write_bytes(damage)
        assert evaluate(bridge, folder, positive="damaged").n == 6
    assert capsys.readouterr().err.count("split.csv: is damaged") == 2  # An empty one names none.


def test_a_split_folder_is_not_lumped_together(tmp_path, classifier):
    for subset in ("train", "validation", "test"):
        (tmp_path / subset).mkdir()
    with pytest.raises(UserError, match="/test"):
        evaluate(tmp_path, classifier)


def test_the_folder_of_a_split_is_measured_part_by_part(bridge, classifier, tmp_path):
    shutil.move(bridge, tmp_path / "data" / "test")
    assert evaluate(tmp_path / "data" / "test", classifier, positive="damaged").n == 6


@pytest.fixture
def wall(tmp_path):
    """Two images of each of three classes."""
    for name, colour in (("cracked", CRACKED), ("joint", JOINT), ("spalled", SPALLED)):
        (tmp_path / "wall" / name).mkdir(parents=True)
        for i in range(2):
            pixels = tuple(x - i for x in colour)
            Image.new("RGB", (40, 40), pixels).save(tmp_path / "wall" / name / f"{i}.png")
    return tmp_path / "wall"


def test_three_classes_are_measured_by_their_names(wall):
    assert evaluate(wall, SEVERAL).confusion_matrix == ((2, 0, 0), (0, 2, 0), (0, 0, 2))
    shutil.rmtree(wall / "joint")
    report = evaluate(wall, SEVERAL, positive="cracked")
    assert report.confusion_matrix == ((2, 0, 0), (0, 0, 0), (0, 0, 2))
    assert report.balanced_accuracy == 1


def test_of_three_classes_folders_of_other_names_are_refused(wall):
    both = r"cracked, joint, spalled, of which cracked is .* Received: cracked, joint, {}"
    with pytest.raises(UserError, match=both.format("spalled, positive='joint'")):
        evaluate(wall, SEVERAL, positive="joint")
    (wall / "spalled").rename(wall / "rusty")
    with pytest.raises(UserError, match=both.format("rusty.")):
        evaluate(wall, SEVERAL)


def test_a_model_of_two_classes_measures_any_number_as_cracked_against_the_rest(wall, classifier):
    report = evaluate(wall, classifier)
    assert report.class_names == ("Negative", "Positive")
    assert report.confusion_matrix == ((4, 0), (0, 2))
    assert evaluate(wall, classifier, positive="joint").confusion_matrix == ((2, 2), (2, 0))
