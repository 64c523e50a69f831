import dataclasses
from itertools import pairwise

import keras
import numpy as np
import pytest
from PIL import Image

from conftest import draw_blot
from crackclf.inference import maps as module
from crackclf.inference.maps import level_sizes, map_cracks
from crackclf.models.saving import Classifier


def draw_smooth(width: int, height: int, grain: int = 40) -> Image.Image:
    size = (height // grain, width // grain, 3)
    coarse = np.random.default_rng(0).integers(90, 170, size, np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((1, 1), [(8, 8)]),
        ((10, 400), [(8, 100)]),
        ((127, 127), [(32, 32)]),  # Just below four patches: half of it would be below two.
        ((128, 128), [(32, 32), (16, 16)]),
        ((130, 260), [(32, 64), (16, 32)]),
        ((2000, 1000), [(496, 248), (248, 124), (124, 62), (62, 31)]),
    ],
)
def test_a_photo_is_halved_while_it_is_two_patches_wide_and_high(size, sizes):
    assert level_sizes(size, density=1 / 4, patch=8) == sizes


def test_every_level_is_half_of_the_one_before_whatever_the_size():
    rng = np.random.default_rng(0)
    for width, height in rng.integers(1, 9000, (200, 2)).tolist():
        levels = level_sizes((width, height), density=0.03, patch=6)
        assert all((x, y) == (2 * a, 2 * b) for (x, y), (a, b) in pairwise(levels))
        assert min(levels[-1]) >= (12 if len(levels) > 1 else 6)
        assert min(levels[-1]) <= 24
        assert levels[0][0] == pytest.approx(0.03 * width, abs=2 ** len(levels) / 4 + 6)


def test_what_is_seen_in_half_the_scale_weighs_half_as_much(classifier, monkeypatch):
    def log_odds(photo: Image.Image) -> np.ndarray:
        probability = map_cracks(photo, classifier)
        return np.log(probability / (1 - probability))

    photo = draw_smooth(200, 160)
    both = log_odds(photo)
    monkeypatch.setattr(module, "level_sizes", lambda size, *_: [size])
    coarse = Image.fromarray(log_odds(photo.reduce(2))).resize(
        photo.size, Image.Resampling.BILINEAR
    )
    expected = (log_odds(photo) + np.asarray(coarse) / 2) / 1.5
    assert np.abs(log_odds(photo) - expected).max() > 0.1
    np.testing.assert_allclose(both, expected, atol=1e-3)


def test_the_map_is_of_what_the_model_says_there(classifier):
    photo = draw_blot((60, 0, 120, 90))  # The right half.
    probability = map_cracks(photo, classifier)
    assert probability.dtype == np.float32
    assert probability.shape == (90, 120)
    assert probability[:, :45].max() < 0.05
    assert probability[:, 75:].min() > 0.95


@pytest.mark.parametrize("tile_by_tile", [False, True])
def test_calibration_and_the_order_of_the_classes_are_the_cards(tile_by_tile, classifier):
    photo = draw_smooth(120, 80)
    expected = map_cracks(photo, classifier, tile_by_tile)
    assert expected.std() > 0.05
    log_odds = np.log(expected / (1 - expected))
    card = dataclasses.replace(classifier.card, temperature=2.0, positive_class="Negative")
    other = map_cracks(photo, dataclasses.replace(classifier, card=card), tile_by_tile)
    np.testing.assert_allclose(other, 1 / (1 + np.exp(log_odds / 2)), atol=1e-4)


def test_a_patch_of_the_card_is_what_the_model_gets_to_see(classifier):
    card = dataclasses.replace(classifier.card, patch_size=64)
    coarse = dataclasses.replace(classifier, card=card)
    probability = map_cracks(draw_blot((60, 0, 120, 90)), coarse)
    assert probability.shape == (45, 60)
    assert probability[:, 40:].min() > 0.95


@pytest.mark.parametrize("size", [(120, 80), (80, 200), (133, 129), (300, 140)])
def test_cutting_into_pieces_changes_nothing(size, classifier):
    photo = draw_smooth(*size)
    expected = map_cracks(photo, classifier)
    dense, asked = classifier.dense, []

    def probabilities(pixels: np.ndarray) -> np.ndarray:
        asked.append(pixels.shape[:2])
        return dense.probabilities(pixels)

    few = dense._replace(most_pixels=45**2, probabilities=probabilities)
    vars(classifier)["dense"] = few
    np.testing.assert_allclose(map_cracks(photo, classifier), expected, atol=1e-5)
    assert len(asked) > 5
    assert max(height * width for height, width in asked) <= few.most_pixels
    # For each other size the network has to be made ready.
    assert len(set(asked)) <= (1 if min(size) < 128 else 2)


@pytest.mark.parametrize(("tile_by_tile", "patch_size"), [(False, 0), (True, 0), (False, 24)])
def test_the_map_of_a_photo_that_lies_on_its_side_lies_on_its_side(
    tile_by_tile, patch_size, classifier
):
    card = dataclasses.replace(classifier.card, patch_size=patch_size)
    classifier = dataclasses.replace(classifier, card=card)
    photo = draw_smooth(320, 160)
    upright = map_cracks(photo, classifier, tile_by_tile)
    assert upright.std() > 0.05
    aside = photo.transpose(Image.Transpose.TRANSPOSE)
    np.testing.assert_allclose(map_cracks(aside, classifier, tile_by_tile), upright.T, atol=2e-3)


def test_tile_by_tile_finds_the_same(classifier):
    photo = draw_smooth(320, 240, grain=80)
    dense = Image.fromarray(map_cracks(photo, classifier))
    tiles = map_cracks(photo, classifier, tile_by_tile=True)
    dense = np.asarray(dense.resize(tiles.shape[::-1], Image.Resampling.BOX))
    assert tiles.std() > 0.05
    assert np.corrcoef(dense.ravel(), tiles.ravel())[0, 1] > 0.95
    assert np.abs(dense - tiles).mean() < 0.1


def test_a_model_that_needs_its_patch_whole_is_asked_tile_by_tile_and_says_so(classifier, capsys):
    inputs = keras.Input((32, 32, 3))
    head = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
    kernel, bias = classifier.model.get_weights()
    head.set_weights([np.tile(kernel / 32**2, (32**2, 1)), bias])  # Says the very same.
    photo = draw_smooth(120, 90)
    found = map_cracks(photo, Classifier(model, classifier.card))
    assert "tile by tile" in capsys.readouterr().err
    expected = map_cracks(photo, classifier, tile_by_tile=True)
    assert capsys.readouterr().err == ""
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_blot_many_patches_wide_is_one_in_every_scale(classifier):
    probability = map_cracks(draw_blot((0, 0, 400, 150), (400, 300)), classifier)
    assert probability.shape == (300, 400)
    assert probability[:110].min() > 0.95
    assert probability[190:].max() < 0.05


@pytest.mark.parametrize("tile_by_tile", [False, True])
def test_patches_of_an_odd_size_are_mapped_as_well(tile_by_tile, classifier):
    inputs = keras.Input((33, 33, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.AveragePooling2D(3)(inputs))
    head = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, head(x))
    head.set_weights(classifier.model.get_weights())
    card = dataclasses.replace(classifier.card, image_size=33)
    photo = draw_blot((0, 0, 100, 150), (200, 150))
    probability = map_cracks(photo, Classifier(model, card), tile_by_tile)
    left, right = np.array_split(probability, 2, axis=1)
    assert left.mean() > 0.8 > 0.2 > right.mean()
