import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.features.extract import build_extractor
from crackclf.models.backbones import BACKBONES
from crackclf.models.classifier import build_model
from crackclf.models.parts import split_model
from crackclf.models.unfreezing import unfreeze

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
LABELS = np.eye(2)[[0, 1, 0, 1]]


def norms(model: keras.Model) -> list[keras.Layer]:
    layers = model.get_layer("mobilenetv2").layers
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A model trained for three steps with its last two blocks open; its weights before that."""
    keras.utils.set_random_seed(0)
    model = build_model(32, weights="random", label_smoothing=0.1, weight_decay=0.01)
    unfreeze(model, blocks=2, learning_rate=1e-2)
    base = model.get_layer("mobilenetv2")
    before = {w.path: w.numpy().copy() for w in base.weights}
    model.fit(IMAGES, LABELS, epochs=3, verbose=0)
    return model, before


def test_the_last_blocks_learn_and_those_before_them_do_not(tuned):
    model, before = tuned
    changed = {
        layer.name
        for layer in model.get_layer("mobilenetv2").layers
        if any((w.numpy() != before[w.path]).any() for w in layer.weights)
    }
    assert {name.split("_")[1] for name in changed} == {"15", "16", "1"}
    assert {"block_15_expand", "block_16_depthwise", "Conv_1"} <= changed


def test_no_batch_normalization_moves(tuned):
    model, before = tuned
    assert len(norms(model)) == 52
    for layer in norms(model):
        for weight in layer.weights:
            np.testing.assert_array_equal(weight.numpy(), before[weight.path])


def test_optimizer_loss_and_metrics_stay_but_for_the_learning_rate(tuned):
    model, _ = tuned
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2)
    assert model.optimizer.weight_decay == 0.01
    assert model.loss.label_smoothing == 0.1
    assert set(model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)) == {"loss", "accuracy"}


def test_its_features_go_into_the_first_open_block(tuned):
    model, _ = tuned
    _, frozen, head = split_model(model)
    assert frozen.output_shape == (None, 1, 1, 160)
    features = build_extractor(frozen)(IMAGES)
    np.testing.assert_allclose(head(features), model.predict(IMAGES, verbose=0), atol=1e-4)


def test_a_saved_one_can_be_trained_further(tuned, tmp_path):
    model, _ = tuned
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    names = [[w.path for w in m.trainable_weights] for m in (model, again)]
    assert names[0] == names[1]
    assert split_model(again).frozen.output_shape == (None, 1, 1, 160)


def test_features_of_a_base_that_is_open_throughout_cannot_be_cached(tiny):
    model = build_model(32, tiny, weights="random")
    unfreeze(model, blocks=2)
    with pytest.raises(UserError, match="at least its beginning"):
        split_model(model)


def test_more_blocks_than_there_are_is_refused(tuned):
    with pytest.raises(UserError, match="from 1 to 17, as many as mobilenetv2 has"):
        unfreeze(tuned[0], blocks=18)


@pytest.mark.parametrize(
    "name", ["convnexttiny", "efficientnetlite0", "efficientnetv2b0", "resnet50", "vgg16-block4"]
)
def test_every_family_of_backbones_has_blocks_and_can_be_cut(name):
    model = build_model(32, name, weights="random")
    unfreeze(model, blocks=2)
    frozen = split_model(model).frozen
    assert frozen.output_shape[-1] <= BACKBONES[name].features
    assert 0 < len(frozen.weights) < len(model.get_layer(name).weights)
