import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.signal import convolve

from conftest import build_card, build_keras, draw_blot, from_keras
from crackclf.photos.maps import find_regions, map_cracks

SIZE = (400, 300)  # Of a photo whose map has cells of 10 x 10 pixels.


def draw_smooth(width: int, height: int, grain: int = 40) -> Image.Image:
    size = (height // grain, width // grain, 3)
    coarse = np.random.default_rng(0).integers(90, 170, size, np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def build_with_head(image_size: int, pooling: list, name: str):
    """The head of `build_keras` behind another pooling of the pixels."""
    inputs = keras.Input((image_size, image_size, 3))
    head = keras.layers.Dense(2, activation="softmax")
    x = inputs
    for layer in pooling:
        x = layer(x)
    model = keras.Model(inputs, head(x))
    kernel, bias = build_keras().get_weights()
    head.set_weights([np.tile(kernel * 3 / x.shape[-1], (x.shape[-1] // 3, 1)), bias])
    return from_keras(model, build_card(image_size=image_size, sha256={"model.keras": name}))


@pytest.fixture(scope="module")
def tile_classifier():
    """The same probabilities, but of patches only: their pixels are not pooled."""
    return build_with_head(32, [keras.layers.Flatten()], "tiles")


@pytest.mark.parametrize("name", ["classifier", "tile_classifier"])
def test_calibration_and_the_order_of_the_classes_are_the_cards(name, request):
    classifier, photo = request.getfixturevalue(name), draw_smooth(120, 80)
    expected = map_cracks(photo, classifier)
    card = dataclasses.replace(classifier.card, temperature=2.0, positive_class="Negative")
    other = map_cracks(photo, dataclasses.replace(classifier, card=card))
    np.testing.assert_allclose(other, 1 / (1 + np.sqrt(expected / (1 - expected))), atol=1e-4)


def map_whole(photo: Image.Image, classifier, scales: int) -> np.ndarray:
    """The map by its definition, each scale in one go, each weighing half of the one before."""
    total, weights, size = 0, 0, photo.size
    for level in range(scales):
        cells = classifier.card.log_odds(classifier.graph(np.asarray(photo)[None])[0])
        sums, counts = (convolve(x, np.ones((17, 17)), "same") for x in (cells, cells * 0 + 1))
        odds = Image.fromarray((sums / counts).astype(np.float32))
        total += 0.5**level * np.asarray(odds.resize(size, Image.Resampling.BILINEAR))
        weights, photo = weights + 0.5**level, photo.reduce(2)
    return 1 / (1 + np.exp(-total / weights))


@pytest.mark.parametrize(
    ("size", "scales"), [((1200, 120), 1), ((127, 904), 1), ((608, 496), 3), ((440, 528), 3)]
)
def test_a_photo_is_halved_while_it_is_two_patches_wide_and_cutting_it_changes_nothing(
    size, scales, classifier
):
    photo, shapes = draw_smooth(*size), []

    def graph(images: np.ndarray) -> np.ndarray:
        shapes.append(images.shape)
        return classifier.graph(images)

    found = map_cracks(photo, dataclasses.replace(classifier, graph=graph))
    assert len(shapes) >= 5
    assert max(height * width for _, height, width, _ in shapes) <= 16 * 32**2
    assert len(set(shapes)) <= scales  # The network has to be prepared for each.
    np.testing.assert_allclose(found, map_whole(photo, classifier, scales), atol=1e-4)


def test_tile_by_tile_finds_the_same(classifier, tile_classifier):
    photo = draw_smooth(320, 256, grain=80)
    cells, tiles = (map_cracks(photo, x) for x in (classifier, tile_classifier))
    cells = np.asarray(Image.fromarray(cells).resize(tiles.shape[::-1], Image.Resampling.BOX))
    assert tiles.shape == (8, 10)
    assert np.corrcoef(cells.ravel(), tiles.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("cell_size", [3, 0])
def test_patches_and_cells_of_an_odd_size_are_mapped_as_well(cell_size):
    by_cells = [keras.layers.AveragePooling2D(3), keras.layers.GlobalAveragePooling2D()]
    odd = build_with_head(33, by_cells if cell_size else [keras.layers.Flatten()], "odd")
    assert odd.card.cell_size == cell_size
    probability = map_cracks(draw_blot((0, 0, 100, 150), (200, 150)), odd)
    left, right = np.array_split(probability, 2, axis=1)
    assert left.mean() > 0.8 > 0.2 > right.mean()


def plateau(place: tuple[slice, slice]) -> np.ndarray:
    probability = np.zeros((30, 40), np.float32)
    probability[place] = 1
    return probability


@pytest.mark.parametrize(
    ("place", "size", "box"),
    [
        (np.s_[:10, 30:], SIZE, (300, 0, 400, 100)),  # At the border, along which it is closed.
        (np.s_[:, :], SIZE, (0, 0, 400, 300)),
        (np.s_[10:20, 5:25], (400, 900), (50, 300, 250, 600)),  # Cells need not be square.
    ],
)
def test_a_plateau_has_its_box_and_its_area(place, size, box):
    (region,) = find_regions(plateau(place), size, 0.6)
    assert region.box == box
    assert region.area == pytest.approx((box[2] - box[0]) * (box[3] - box[1]), rel=0.01)
    assert region.probability == 1


def test_a_hole_is_not_part_of_the_area():
    probability = plateau(np.s_[10:20, 5:25])
    probability[13:17, 10:20] = 0
    (region,) = find_regions(probability, SIZE, 0.6)
    assert region.area == pytest.approx(200 * 100 - 100 * 40, rel=0.01)
    ((_, hole),) = region.polygons
    assert np.ptp(np.array(hole), axis=0).tolist() == [100, 40]


@pytest.mark.parametrize(("threshold", "reach"), [(0.85, 0.5), (0.6, 0.5), (0.4, 0.4)])
def test_a_region_has_its_peak_above_the_threshold_and_reaches_out_to_one_in_two(threshold, reach):
    rows, columns = np.mgrid[:30, :40] * 10 + 5
    cone = np.maximum(0.9 - 0.01 * np.hypot(columns - 205, rows - 155), 0).astype(np.float32)
    assert find_regions(cone, SIZE, float(cone.max())) == ()
    (region,) = find_regions(cone, SIZE, threshold)
    radius = 100 * (0.9 - reach)
    expected = (205 - radius, 155 - radius, 205 + radius, 155 + radius)
    assert region.box == pytest.approx(expected, abs=1)
    assert region.area == pytest.approx(np.pi * radius**2, rel=0.1)


def test_every_ring_is_closed_and_lies_in_the_photo():
    probability = np.random.default_rng(0).uniform(size=(30, 40)).astype(np.float32)
    regions = find_regions(probability, SIZE, 0.9)
    rings = [ring for region in regions for rings in region.polygons for ring in rings]
    assert len(rings) > len(regions) > 5
    assert all(len(ring) >= 4 and ring[0] == ring[-1] for ring in rings)
    assert all(np.min(ring) >= 0 and (np.max(ring, axis=0) <= SIZE).all() for ring in rings)
