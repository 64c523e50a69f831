import dataclasses
from itertools import pairwise

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.signal import convolve

from conftest import build_card, build_keras, draw_blot
from crackclf.inspection import maps as module
from crackclf.inspection.blocks import block_sizes, cut, level_sizes
from crackclf.inspection.maps import map_cracks
from crackclf.prediction.classifier import from_keras


def draw_smooth(width: int, height: int, grain: int = 40) -> Image.Image:
    size = (height // grain, width // grain, 3)
    coarse = np.random.default_rng(0).integers(90, 170, size, np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def log_odds_of(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


def build_with_head(classifier, image_size: int, pooling: list, name: str):
    """The classifier's head behind another pooling of the pixels."""
    inputs = keras.Input((image_size, image_size, 3))
    head = keras.layers.Dense(2, activation="softmax")
    x = inputs
    for layer in pooling:
        x = layer(x)
    model = keras.Model(inputs, head(x))
    kernel, bias = build_keras().get_weights()
    head.set_weights([np.tile(kernel * 3 / x.shape[-1], (x.shape[-1] // 3, 1)), bias])
    card = build_card(image_size=image_size, sha256={"model.keras": name})
    return from_keras(model, card)


@pytest.fixture(scope="module")
def tile_classifier(classifier):
    """It says the same, but of patches only: their pixels are not pooled."""
    return build_with_head(classifier, 32, [keras.layers.Flatten()], "tiles")


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((1, 1), [(8, 8)]),
        ((400, 10), [(100, 8)]),
        ((127, 127), [(32, 32)]),  # Just below four patches: half of it would be below two.
        ((128, 128), [(32, 32), (16, 16)]),
        ((260, 130), [(64, 32), (32, 16)]),
        ((1000, 2000), [(248, 496), (124, 248), (62, 124), (31, 62)]),
    ],
)
def test_a_photo_is_halved_while_it_is_two_patches_wide_and_high(size, sizes):
    assert level_sizes(size, density=1 / 4, patch=8) == sizes


def test_every_level_is_half_of_the_one_before_whatever_the_size():
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 9000, (200, 2)).tolist():
        levels = level_sizes((height, width), density=0.03, patch=6)
        assert all((x, y) == (2 * a, 2 * b) for (x, y), (a, b) in pairwise(levels))
        assert min(levels[-1]) >= (12 if len(levels) > 1 else 6)
        assert min(levels[-1]) <= 24
        assert levels[0][0] == pytest.approx(0.03 * height, abs=2 ** len(levels) / 4 + 6)


def test_blocks_cover_a_picture_once_and_see_a_margin_around_what_they_keep():
    rng = np.random.default_rng(0)
    for rows, columns in rng.integers(1, 300, (100, 2)).tolist():
        (size,) = block_sizes([(rows, columns)], margin=2, most=24)
        assert size[0] * size[1] <= 24**2
        kept = np.zeros((rows, columns), int)
        for block in cut((rows, columns), size, margin=2):
            kept[tuple(slice(span.start, span.stop) for span in block)] += 1
            for span, side, length in zip(block, size, (rows, columns), strict=True):
                assert span.last - span.first == side
                assert span.start - span.first >= min(2, span.start)
                assert span.last - span.stop >= min(2, length - span.stop)
        assert (kept == 1).all()


def test_what_is_seen_in_half_the_scale_weighs_half_as_much(classifier, monkeypatch):
    photo = draw_smooth(200, 160)
    both = log_odds_of(map_cracks(photo, classifier))
    monkeypatch.setattr(module, "level_sizes", lambda size, *_: [size])
    fine, coarse = (log_odds_of(map_cracks(x, classifier)) for x in (photo, photo.reduce(2)))
    coarse = Image.fromarray(coarse).resize(photo.size, Image.Resampling.BILINEAR)
    expected = (fine + np.asarray(coarse) / 2) / 1.5
    assert np.abs(fine - expected).max() > 0.1
    np.testing.assert_allclose(both, expected, atol=1e-3)


def test_the_map_is_of_what_the_model_says_there(classifier):
    photo = draw_blot((60, 0, 120, 90))  # The right half.
    probability = map_cracks(photo, classifier)
    assert probability.dtype == np.float32
    assert probability.shape == (90, 120)
    assert probability[:, :45].max() < 0.05
    assert probability[:, 75:].min() > 0.95


def test_a_cell_is_told_by_what_is_half_a_patch_around_it(classifier):
    photo = draw_smooth(100, 60, grain=20)
    probability = map_cracks(photo, classifier)
    pixels = np.asarray(photo)
    for row, column in ((0, 0), (3, 50), (30, 20), (59, 99)):
        window = pixels[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
        patch = np.broadcast_to(window.mean(axis=(0, 1)), (1, 32, 32, 3))
        expected = classifier.probabilities(patch)[0, 1]
        assert probability[row, column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["classifier", "tile_classifier"])
def test_calibration_and_the_order_of_the_classes_are_the_cards(name, request):
    classifier, photo = request.getfixturevalue(name), draw_smooth(120, 80)
    expected = map_cracks(photo, classifier)
    assert expected.std() > 0.05
    card = dataclasses.replace(classifier.card, temperature=2.0, positive_class="Negative")
    other = map_cracks(photo, dataclasses.replace(classifier, card=card))
    np.testing.assert_allclose(other, 1 / (1 + np.exp(log_odds_of(expected) / 2)), atol=1e-4)


def test_a_patch_of_the_card_is_what_the_model_gets_to_see(classifier):
    card = dataclasses.replace(classifier.card, patch_size=64)
    coarse = dataclasses.replace(classifier, card=card)
    probability = map_cracks(draw_blot((60, 0, 120, 90)), coarse)
    assert probability.shape == (45, 60)
    assert probability[:, 40:].min() > 0.95


def map_whole(photo: Image.Image, classifier) -> np.ndarray:
    """The map by its definition, each scale in one go."""
    total, weights, size = 0, 0, photo.size
    for level, _ in enumerate(level_sizes(size, 1, 32)):
        cells = classifier.card.log_odds(classifier.graph(np.asarray(photo)[None])[0])
        sums, counts = (convolve(x, np.ones((17, 17)), "same") for x in (cells, cells * 0 + 1))
        odds = Image.fromarray((sums / counts).astype(np.float32))
        total += 0.5**level * np.asarray(odds.resize(size, Image.Resampling.BILINEAR))
        weights, photo = weights + 0.5**level, photo.reduce(2)
    return 1 / (1 + np.exp(-total / weights))


@pytest.mark.parametrize("size", [(1200, 120), (120, 904), (608, 496), (440, 528)])
def test_cutting_into_blocks_changes_nothing(size, classifier):
    photo, asked = draw_smooth(*size), []

    def graph(images: np.ndarray) -> np.ndarray:
        asked.append(images.shape)
        return classifier.graph(images)

    found = map_cracks(photo, dataclasses.replace(classifier, graph=graph))
    assert len(asked) >= 5
    assert max(height * width for _, height, width, _ in asked) <= 22 * 32**2
    # For each other size the network has to be made ready.
    assert len(set(asked)) <= 2
    np.testing.assert_allclose(found, map_whole(photo, classifier), atol=1e-4)


def test_the_blocks_of_a_photo_do_not_grow_with_it(classifier):
    for side in (100, 300, 1000, 3000):
        asked = []

        def graph(images: np.ndarray, asked: list = asked) -> np.ndarray:
            asked.append(images[0, :, :, 0].size)
            return np.zeros((*images.shape[:3], 2), np.float32)

        map_cracks(draw_blot(size=(side, side)), dataclasses.replace(classifier, graph=graph))
        assert max(asked) <= 22 * 32**2


@pytest.mark.parametrize(
    ("name", "patch_size"), [("classifier", 0), ("tile_classifier", 0), ("classifier", 24)]
)
def test_the_map_of_a_photo_that_lies_on_its_side_lies_on_its_side(name, patch_size, request):
    classifier = request.getfixturevalue(name)
    card = dataclasses.replace(classifier.card, patch_size=patch_size)
    classifier = dataclasses.replace(classifier, card=card)
    photo = draw_smooth(320, 160)
    upright = map_cracks(photo, classifier)
    assert upright.std() > 0.05
    aside = photo.transpose(Image.Transpose.TRANSPOSE)
    np.testing.assert_allclose(map_cracks(aside, classifier), upright.T, atol=2e-3)


def test_tile_by_tile_finds_the_same(classifier, tile_classifier):
    photo = draw_smooth(320, 240, grain=80)
    cells, tiles = (map_cracks(photo, each) for each in (classifier, tile_classifier))
    cells = np.asarray(Image.fromarray(cells).resize(tiles.shape[::-1], Image.Resampling.BOX))
    assert tiles.shape == (16, 20)
    assert tiles.std() > 0.05
    assert np.corrcoef(cells.ravel(), tiles.ravel())[0, 1] > 0.95
    assert np.abs(cells - tiles).mean() < 0.1


def test_a_model_that_answers_for_patches_only_says_once_that_it_takes_long(
    classifier, tile_classifier, capsys
):
    card = dataclasses.replace(tile_classifier.card, sha256={"model.keras": "another"})
    other = dataclasses.replace(tile_classifier, card=card)
    for _ in range(2):
        map_cracks(draw_blot(), other)
    assert capsys.readouterr().err.count("tile by tile") == 1
    map_cracks(draw_blot(), classifier)
    assert capsys.readouterr().err == ""


def test_a_blot_many_patches_wide_is_one_in_every_scale(classifier):
    probability = map_cracks(draw_blot((0, 0, 400, 150), (400, 300)), classifier)
    assert probability.shape == (300, 400)
    assert probability[:110].min() > 0.95
    assert probability[190:].max() < 0.05


@pytest.mark.parametrize("cell_size", [3, 0])
def test_patches_and_cells_of_an_odd_size_are_mapped_as_well(cell_size, classifier):
    by_cells = [keras.layers.AveragePooling2D(3), keras.layers.GlobalAveragePooling2D()]
    pooling = by_cells if cell_size else [keras.layers.Flatten()]
    odd = build_with_head(classifier, 33, pooling, f"odd {cell_size}")
    assert odd.card.cell_size == cell_size
    probability = map_cracks(draw_blot((0, 0, 100, 150), (200, 150)), odd)
    left, right = np.array_split(probability, 2, axis=1)
    assert left.mean() > 0.8 > 0.2 > right.mean()
