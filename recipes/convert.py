"""The trained network becomes a Keras classifier, and a LiteRT graph that gives its mask, too."""

import math
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from crackclf.errors import learning
from crackclf.files import writing
from network import HEAD, LEVELS, Block, Conv, Network
from train import CRACK_WEIGHT

with learning():
    import keras
    import tensorflow as tf
    from keras import layers

    from crackclf.conversion import freeze

BASE = "efficientnetlite0"


def build_keras(net: Network, image_size: int) -> tuple[keras.Model, Callable]:
    """Builds the network in Keras, its weights rounded to 16 bits and BatchNorm folded.

    Returns:
        The classifier, from images in 0..255 to probabilities of `crack` and `no_crack`. And the
        network from images of any size to logits: by cell, and of the mask (n, rows, columns, 1).
    """
    image = keras.Input((None, None, 3))
    x, maps = _convolve(net.stem, image, "stem"), []
    for stage, blocks in enumerate(net.stages, 1):
        for letter, block in zip("abcd", blocks, strict=False):  # pyright: ignore
            x = _add_block(block, x, f"block{stage}{letter}")
        maps.append(x)
    top = _convolve(net.head, x, "head")
    base = keras.Model(image, top, name=BASE)
    pyramid = keras.Model(image, [top, *(maps[i] for i in LEVELS)])

    inputs = keras.Input((image_size, image_size, 3), name="image")
    centre = layers.Rescaling(1 / 128, -127 / 128, name="preprocessing")
    head = layers.Dense(2, activation="softmax", name="probabilities")
    pooled = layers.GlobalAveragePooling2D(name="pooling")(base(centre(inputs), training=False))
    classifier = keras.Model(inputs, head(pooled), name="crackclf")
    weight, bias = (_round(x) for x in (net.label.weight, net.label.bias))
    kernel = np.stack([weight[0], np.zeros_like(weight[0])], axis=1)
    head.set_weights([kernel, np.array([bias[0], 0])])
    by_cell, (*laterals, mask) = layers.Conv2D(2, 1), map(_copy, [*net.laterals, net.mask])
    by_cell.build((None, None, None, HEAD))
    by_cell.set_weights([kernel[None, None], np.array([bias[0], 0])])
    mixers = [[_copy(deep), _copy(flat)] for deep, flat in net.mixers]  # pyright: ignore

    def network(images):
        top, *maps = pyramid(centre(images), training=False)
        maps = [lateral(x) for lateral, x in zip(laterals, maps, strict=True)]
        y = maps.pop()
        for level, (deep, flat) in zip(maps[::-1], mixers, strict=True):
            # Keras' UpSampling2D does not take images of any size here.
            y = level + tf.image.resize(y, 2 * tf.shape(y)[1:3])
            y = tf.nn.relu6(flat(deep(y)))
        # Without the greater weight that a crack had in training, the mask is a probability.
        return by_cell(top), mask(y) - math.log(CRACK_WEIGHT)

    return classifier, network


def _round(tensor) -> np.ndarray:
    return tensor.detach().half().float().numpy()


def _add_block(block: Block, x, name: str):
    y, parts = x, list(block.layers)
    for part, conv in zip(("expand", "depthwise", "project")[-len(parts) :], parts, strict=True):
        y = _convolve(conv, y, f"{name}_{part}")
    return layers.Add(name=f"{name}_add")([x, y]) if block.is_residual else y


def _convolve(conv: Conv, x, name: str):
    weight, bias = conv.fold()
    make = layers.DepthwiseConv2D if conv.deep else layers.Conv2D
    outs = () if conv.deep else (weight.shape[0],)
    layer = make(*outs, conv.size, conv.stride, padding="same", name=name)
    x = layer(x)
    order = (2, 3, 0, 1) if conv.deep else (2, 3, 1, 0)
    layer.set_weights([_round(weight).transpose(order), _round(bias)])
    return layers.ReLU(6, name=f"{name}_relu")(x) if conv.activate else x


def _copy(conv):
    """A plain convolution of PyTorch in Keras."""
    size = conv.kernel_size[0]
    if conv.groups > 1:
        layer, order = layers.DepthwiseConv2D(size, padding="same"), (2, 3, 0, 1)
    else:
        layer, order = layers.Conv2D(conv.out_channels, size), (2, 3, 1, 0)
    layer.build((None, None, None, conv.in_channels))
    layer.set_weights([_round(conv.weight).transpose(order), _round(conv.bias)])
    return layer


def write_litert(network: Callable, file: Path) -> None:
    """Writes a network of two outputs as LiteRT, its weights in 16 bits."""
    images = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    graph = freeze(network, images)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    with writing(file) as draft:
        draft.write_bytes(converter.convert())


def compress(file: Path) -> None:
    """Compresses a `.keras` file. Weights that were rounded to 16 bits take half the space."""
    with ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with writing(file) as draft, ZipFile(draft, "w", ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
