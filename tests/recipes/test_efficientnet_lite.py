import numpy as np
import pytest

from crackclf.backbones import BACKBONES
from efficientnet_lite import convert

pytestmark = pytest.mark.extras

torch = pytest.importorskip("torch")


def test_arrays_are_converted_in_order_to_the_layout_of_keras():
    state = {
        "_conv_stem.weight": torch.rand(32, 3, 3, 3),
        "_bn0.weight": torch.rand(32),
        "_bn0.num_batches_tracked": torch.tensor(1),
        "_blocks.0._depthwise_conv.weight": torch.rand(32, 1, 5, 5),
        "_fc.weight": torch.rand(10, 1280),
    }
    stem, scale, depthwise = convert(state)
    assert (stem.shape, scale.shape, depthwise.shape) == ((3, 3, 3, 32), (32,), (5, 5, 32, 1))
    np.testing.assert_array_equal(stem[1, 2, 0], state["_conv_stem.weight"][:, 0, 1, 2])
    np.testing.assert_array_equal(
        depthwise[1, 2, :, 0], state["_blocks.0._depthwise_conv.weight"][:, 0, 1, 2]
    )


@pytest.mark.parametrize(
    ("variant", "blocks", "parameters"), [(0, 16, 3.41), (1, 21, 4.19), (2, 21, 4.88)]
)
def test_each_variant_has_the_size_of_its_paper(variant, blocks, parameters):
    row = BACKBONES[f"efficientnetlite{variant}"]
    base = row.application(include_top=False, weights=None, input_shape=(64, 64, 3))
    assert len({x.name.split("_")[0] for x in base.layers if "block" in x.name}) == blocks
    assert base.count_params() / 1e6 == pytest.approx(parameters, abs=0.06)
