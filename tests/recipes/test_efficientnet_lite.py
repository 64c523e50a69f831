import numpy as np
import pytest

from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone
from crackclf.models.weights import MissingWeightsError
from efficientnet_lite import convert

torch = pytest.importorskip("torch")
relu6 = torch.nn.functional.relu6


def forward(state, x):
    """EfficientNet-Lite0 by its state dict, in the names of `efficientnet_lite_pytorch`."""

    def convolve(x, name, stride=1):
        weight = state[f"{name}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        ends = [missing // 2, missing - missing // 2]
        x = torch.nn.functional.pad(x, [*ends, *ends])
        groups = len(weight) if "depthwise" in name else 1
        return torch.nn.functional.conv2d(x, weight, stride=stride, groups=groups)

    def normalise(x, name):
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return torch.nn.functional.batch_norm(x, mean, variance, weight, bias, eps=1e-3)

    x = relu6(normalise(convolve(x, "_conv_stem", 2), "_bn0"))
    for number in range(16):
        name, inputs = f"_blocks.{number}.", x
        if number:
            x = relu6(normalise(convolve(x, f"{name}_expand_conv"), f"{name}_bn0"))
        stride = 2 if number in (1, 3, 5, 11) else 1
        x = relu6(normalise(convolve(x, f"{name}_depthwise_conv", stride), f"{name}_bn1"))
        x = normalise(convolve(x, f"{name}_project_conv"), f"{name}_bn2")
        x = x + inputs if x.shape == inputs.shape else x
    return relu6(normalise(convolve(x, "_conv_head"), "_bn1"))


def draw_state(base):
    """Random weights as PyTorch names and lays them out."""
    rng, state, block = np.random.default_rng(0), {}, -1
    names = {"stem": ("_conv_stem", "_bn0"), "top": ("_conv_head", "_bn1")}
    for layer in base.layers:
        if not layer.weights:
            continue
        part, _, kind = layer.name.partition("_")
        if part.startswith("block"):
            first = kind in ("expand_conv", "dwconv") and f"seen {part}" not in names
            block += first
            names[f"seen {part}"] = ()
            torch_name = {
                "expand_conv": "_expand_conv",
                "expand_bn": "_bn0",
                "dwconv": "_depthwise_conv",
                "bn": "_bn1",
                "project_conv": "_project_conv",
                "project_bn": "_bn2",
            }[kind]
            name = f"_blocks.{block}.{torch_name}"
        else:
            name = names[part][kind == "bn"]
        if kind.endswith("conv"):
            order = (2, 3, 0, 1) if kind == "dwconv" else (3, 2, 0, 1)
            shape = np.transpose(np.empty(layer.kernel.shape), order).shape
            scale = np.sqrt(2 / np.prod(shape[1:]))
            state[f"{name}.weight"] = torch.tensor(rng.normal(0, scale, shape), dtype=torch.float)
        else:
            n = layer.gamma.shape[0]
            for key, low, high in (
                ("weight", 0.8, 1.2),
                ("bias", -0.2, 0.4),
                ("running_mean", -0.1, 0.1),
                ("running_var", 0.8, 1.2),
            ):
                values = torch.tensor(rng.uniform(low, high, n), dtype=torch.float)
                state[f"{name}.{key}"] = values
            state[f"{name}.num_batches_tracked"] = torch.tensor(1)
    return state | {"_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}


def test_converted_weights_give_the_features_of_the_network_in_pytorch():
    base, _ = build_backbone("efficientnetlite0", 64, "random")
    state = draw_state(base)
    base.set_weights(convert(state))
    images = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = forward(state, torch.from_numpy(images).permute(0, 3, 1, 2))
    expected = expected.permute(0, 2, 3, 1).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(base(images, training=False), expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize(
    ("variant", "blocks", "parameters"), [(0, 16, 3.41), (1, 21, 4.19), (2, 21, 4.88)]
)
def test_each_variant_has_the_size_of_its_paper(variant, blocks, parameters):
    row = BACKBONES[f"efficientnetlite{variant}"]
    base = row.application(include_top=False, weights=None, input_shape=(64, 64, 3))
    assert len({x.name.split("_")[0] for x in base.layers if "block" in x.name}) == blocks
    assert base.count_params() / 1e6 == pytest.approx(parameters, abs=0.06)


def test_weights_that_are_not_there_name_the_recipe_that_makes_them(monkeypatch):
    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR", raising=False)
    with pytest.raises(MissingWeightsError, match=r"make it by `python recipes/efficientnet_lite"):
        build_backbone("efficientnetlite1", 64, "imagenet")
