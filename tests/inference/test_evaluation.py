import pytest
from PIL import Image

from crackclf.errors import UserError
from crackclf.inference.evaluation import evaluate_folder


@pytest.fixture
def bridge(tmp_path):
    for name, level in (("damaged", 20), ("fine", 240)):
        (tmp_path / "bridge" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (40, 40), level + i).save(tmp_path / "bridge" / name / f"{i}.png")
    return tmp_path / "bridge"


def test_class_folders_of_other_names_need_to_be_told(bridge, classifier):
    with pytest.raises(UserError, match="--positive"):
        evaluate_folder(classifier, bridge)
    report = evaluate_folder(classifier, bridge, positive="damaged")
    assert report.class_names == ("Negative", "Positive")
    assert report.confusion_matrix == ((3, 0), (0, 3))
    assert evaluate_folder(classifier, bridge, positive="fine").accuracy == 0


def test_the_models_own_names_need_no_telling(bridge, classifier):
    (bridge / "damaged").rename(bridge / "Positive")
    (bridge / "fine").rename(bridge / "Negative")
    assert evaluate_folder(classifier, bridge).accuracy == 1


def test_images_seen_in_training_are_counted_aloud(bridge, classifier, tmp_path, capsys):
    from crackclf.data.folders import read_folder

    digests = [image.digest for image in read_folder(bridge)[0]]
    (tmp_path / "split.csv").write_text(
        f"subset,class,digest,file\ntrain,a,{digests[0]},x\ntest,a,{digests[1]},x\n"
    )
    evaluate_folder(classifier, bridge, "damaged", model_folder=tmp_path)
    assert "1 of these 6 images" in capsys.readouterr().err
    for damage in (b"\xff\0", b"", b"no,such,column\n1,2,3\n"):
        (tmp_path / "split.csv").write_bytes(damage)
        assert evaluate_folder(classifier, bridge, "damaged", model_folder=tmp_path).n == 6
    assert capsys.readouterr().err.count("split.csv: is damaged") == 2  # An empty one names none.


def test_a_split_folder_is_not_lumped_together(tmp_path, classifier):
    for subset in ("train", "validation", "test"):
        (tmp_path / subset).mkdir()
    with pytest.raises(UserError, match="/test"):
        evaluate_folder(classifier, tmp_path)
