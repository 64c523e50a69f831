import keras
import numpy as np
import pytest
from PIL import Image

from conftest import build_card, from_keras, plain
from crackclf.errors import UserError
from crackclf.folders import read_folder
from crackclf.prediction import evaluate, explain, predict
from several import CRACKED, JOINT, SEVERAL, SPALLED

L = keras.layers
DARK = np.full((64, 96, 3), 230, np.uint8)  # The model's cells are of 8 x 12 pixels here.
DARK[16:48, 48:84] = 10
INSIDE, OUTSIDE = np.s_[22:42, 54:78], np.s_[:, :36]


@pytest.fixture
def bridge(tmp_path):
    for name, level in (("damaged", 20), ("fine", 240)):
        (tmp_path / "bridge" / name).mkdir(parents=True)
        for i in range(3):
            plain((40, 40), (level + i,) * 3).save(tmp_path / "bridge" / name / f"{i}.png")
    return tmp_path / "bridge"


def test_class_folders_with_other_names_need_the_positive_one(bridge, classifier):
    with pytest.raises(UserError, match="--positive"):
        evaluate(bridge, classifier)
    report = evaluate(bridge, classifier, positive="damaged")
    assert report.class_names == ("Negative", "Positive")
    assert report.confusion_matrix == ((3, 0), (0, 3))
    assert evaluate(bridge, classifier, positive="fine").accuracy == 0
    (bridge / "damaged").rename(bridge / "Positive")
    (bridge / "fine").rename(bridge / "Negative")
    assert evaluate(bridge, classifier).accuracy == 1


def test_an_image_that_cannot_be_read_is_an_error_or_is_left_out(bridge, classifier, capsys):
    (bridge / "fine" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"fine/1\.png: .*is empty"):
        evaluate(bridge, classifier, positive="damaged")
    assert evaluate(bridge, classifier, positive="damaged", skip_unreadable=True).n == 5
    assert "1.png" in capsys.readouterr().err


def test_images_of_the_models_own_training_are_counted(bridge, save_keras, tmp_path):
    folder = save_keras(tmp_path / "model", build_card())
    digests = [image.digest for image in read_folder(bridge)[0]]
    rows = f"train,a,{digests[0]},x\ntest,a,{digests[1]},x\n"
    (folder / "split.csv").write_text(f"subset,class,digest,file\n{rows}")
    found = evaluate(bridge, folder, positive="damaged").caution
    assert found.startswith("1 of 6 images were in this model's training or validation, so")
    assert found.endswith("The accuracy on the other 5 is 1.0000 (0.5655 to 1.0000).")


def test_of_a_split_folder_one_part_must_be_named(bridge, classifier, tmp_path):
    for subset in ("train", "validation", "test"):
        bridge.with_name("data").joinpath(subset).mkdir(parents=True)
    with pytest.raises(UserError, match="data/test"):
        evaluate(tmp_path / "data", classifier)


def test_three_classes_are_measured_by_their_names(tmp_path, classifier):
    for name, colour in (("cracked", CRACKED), ("joint", JOINT), ("spalled", SPALLED)):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = tuple(x - i for x in colour)
            plain((40, 40), pixels).save(tmp_path / name / f"{i}.png")
    assert evaluate(tmp_path, SEVERAL).confusion_matrix == ((2, 0, 0), (0, 2, 0), (0, 0, 2))
    assert [p.probability == p.probabilities[0] for p in predict(tmp_path, SEVERAL)] == [True] * 6
    # A model of two classes measures the cracked folder against all the others.
    assert evaluate(tmp_path, classifier).confusion_matrix == ((4, 0), (0, 2))
    (tmp_path / "spalled").rename(tmp_path / "rusty")
    with pytest.raises(UserError, match=r"Received: cracked, joint, rusty"):
        evaluate(tmp_path, SEVERAL)


def build(hidden: bool) -> keras.Model:
    """Of two feature maps, how dark an image is and how bright, in cells of 4 x 4 pixels."""
    inputs = keras.Input((32, 32, 3))
    convolution, head = L.Conv2D(2, 4, 4, activation="relu"), L.Dense(2, activation="softmax")
    x = L.GlobalAveragePooling2D()(convolution(inputs))
    x = L.Dense(2, "relu", kernel_initializer="identity")(x) if hidden else x
    model = keras.Model(inputs, head(x))
    mean = np.full((4, 4, 3, 1), 1 / 48)
    convolution.set_weights([np.concatenate([-mean, mean], axis=3), np.array([128.0, -128.0])])
    head.set_weights([np.array([[-0.02, 0.02], [0.02, -0.02]]), np.zeros(2)])
    return model


def test_a_model_that_answers_for_whole_patches_has_no_evidence_by_place():
    with pytest.raises(UserError, match="answers for whole patches only"):
        explain(DARK, from_keras(build(hidden=True), build_card()))


@pytest.mark.parametrize("model", [SEVERAL, from_keras(build(False), build_card())])
def test_the_evidence_lies_where_the_dark_place_is(model):
    evidence = explain(DARK, model)
    assert (evidence.shape, evidence.dtype) == ((64, 96), np.float32)
    assert (evidence.min(), evidence.max()) == (0, 1)
    assert evidence[INSIDE].mean() > 0.7
    assert evidence[OUTSIDE].max() < 0.05


def test_one_file_or_array_is_explained_at_a_time(tmp_path):
    Image.fromarray(DARK).save(tmp_path / "dark.png")
    np.testing.assert_array_equal(explain(tmp_path / "dark.png", SEVERAL), explain(DARK, SEVERAL))
    assert explain(plain((32, 32), (230,) * 3), SEVERAL).max() == 0
    with pytest.raises(UserError, match=r"expected one patch to explain\. Received: 2 images"):
        explain(np.stack([DARK, DARK]), SEVERAL)
