import pytest

from crackclf.prediction import evaluate, load_model
from crackclf.saving import SHIPPED, load_keras_model


@pytest.fixture(scope="module")
def shipped():
    return load_model()


def test_it_is_small_and_its_keras_model_is_the_base_for_training(shipped):
    for name in ("model.keras", "model.tflite"):
        assert (SHIPPED / name).stat().st_size <= 4_000_000
    assert shipped.card.cell_size == 32
    model = load_keras_model()
    assert model.input_shape == (None, 192, 192, 3)
    assert [x.name for x in model.layers[-3:]] == ["mobilenetv2", "pooling", "probabilities"]


def test_it_tells_cracks_on_drawings_it_never_saw(shipped, sample):
    assert evaluate(sample, shipped).balanced_accuracy > 0.85
