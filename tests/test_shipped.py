import numpy as np
import pytest
from PIL import Image

from crackclf.calibration import softmax
from crackclf.prediction import evaluate, load_model
from crackclf.saving import SHIPPED, load_keras_model
from drawn_concrete.make import make_patch


@pytest.fixture(scope="module")
def shipped():
    return load_model()


def test_it_is_small_and_its_keras_model_is_the_base_for_training(shipped):
    sizes = [(SHIPPED / name).stat().st_size for name in ("model.keras", "model.tflite")]
    assert sum(sizes) <= 16_000_000
    assert (shipped.card.cell_size, shipped.card.mask_stride) == (32, 4)
    model = load_keras_model()
    assert model.input_shape == (None, 192, 192, 3)
    assert [x.name for x in model.layers[-3:]] == ["efficientnetlite0", "pooling", "probabilities"]


def test_its_two_files_give_the_same_answers(shipped):
    images = np.random.default_rng(0).uniform(0, 255, (2, 192, 192, 3)).astype(np.float32)
    found = softmax(shipped.graph(images).mean(axis=(1, 2)))
    np.testing.assert_allclose(found, load_keras_model()(images), atol=1e-3)


def test_its_mask_is_where_the_crack_is(shipped):
    image, mask = make_patch(np.random.default_rng(3), cracked=True, size=256)
    odds = shipped.graph.run(image[None])[1][0, ..., 0]
    small = np.asarray(Image.fromarray(mask).convert("F").resize((64, 64), Image.Resampling.BOX))
    assert odds[small > 0.5].mean() > 2
    assert odds[small == 0].mean() < -2


def test_it_tells_cracks_on_drawings_it_never_saw(shipped, sample):
    assert evaluate(sample, shipped).balanced_accuracy > 0.85
