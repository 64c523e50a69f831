from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conftest import build_keras
from crackclf.errors import UserError
from crackclf.saved.convert import convert_model
from crackclf.saved.graph import Graph

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def graph():
    return convert_model(build_keras())[0]


def test_it_takes_images_of_any_number_type_and_size(graph):
    expected = np.stack([IMAGES.sum(axis=3) * 0.02 - 7.65, 7.65 - IMAGES.sum(axis=3) * 0.02], -1)
    for images in (IMAGES, IMAGES.astype(np.float64)):
        found = graph(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(graph(IMAGES[:2, :5]), expected[:2, :5], atol=1e-4)


def test_threads_may_share_it(graph):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(graph, [IMAGES[i : i + 1] for i in range(6)]))
    np.testing.assert_allclose(np.concatenate(found), graph(IMAGES), atol=1e-6)


def test_images_that_it_does_not_take_are_refused_and_the_next_are_answered(graph):
    with pytest.raises(UserError, match=r"LiteRT cannot answer for images of shape \(2, 8, 8, 5\)"):
        graph(np.zeros((2, 8, 8, 5)))
    assert graph(IMAGES).shape == (6, 8, 8, 2)


@pytest.mark.parametrize("content", [b"", b"x" * 99, b"\0\0\0\0TFL3"])
def test_bytes_that_are_no_graph_are_refused(content):
    with pytest.raises(UserError, match="is no LiteRT graph"):
        Graph(content)


def test_a_damaged_graph_is_refused_or_answers(graph):
    rng, refused = np.random.default_rng(0), 0
    for _ in range(40):
        content = bytearray(graph.content)
        for at in rng.integers(0, len(content), 1 + rng.integers(4)):
            content[at] = rng.integers(256)
        try:
            Graph(bytes(content))(IMAGES)
        except UserError:
            refused += 1
    assert 0 < refused < 40
