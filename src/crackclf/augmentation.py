"""Random changes of training images: flips, rotation and light."""

import keras

from crackclf.errors import UserError


def build_augmentation(strength: float = 1.0) -> keras.Sequential:
    """Builds the random changes applied to training images.

    Horizontal flips, rotation by any angle, contrast (x 0.8 to 1.2) and brightness
    (+- 0.1 of the range). Active only when called with `training=True`, as `fit` does.

    Args:
        strength: factor on the ranges, from 0 for no change to 5. Rotation grows up to 1 only.

    Returns:
        A `keras.Sequential` from float or uint8 images of shape (batch, height, width, 3) in
        0..255 to float32 images of the same shape and range.

    Raises:
        UserError: when the strength is out of range.

    Examples:
        >>> changed = build_augmentation()(images, training=True)
    """
    if not 0 <= strength <= 5:
        raise UserError(f"strength must be from 0 to 5. Received: {strength}.")
    # A crack is a crack in any orientation, so rotation goes all the way round. Reflection at the
    # edges avoids black corners, whose straight borders look like joints.
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(0.5 * min(strength, 1), fill_mode="reflect"),
        keras.layers.RandomContrast(0.2 * strength, value_range=(0, 255)),
        keras.layers.RandomBrightness(0.1 * strength, value_range=(0, 255)),
    ]
    return keras.Sequential(layers if strength else layers[1:], name="augmentation")
