"""What a crack looks like from the other side, turned, or in other light."""

import keras

from crackclf.errors import UserError

# A crack is a crack in any orientation, so whole turns cost nothing; reflection at the edges
# avoids black corners, whose straight borders look like joints. A vertical flip is a horizontal one
# turned by half.
_TURNS = 0.5


def build_augmentation(strength: float = 1.0) -> keras.Sequential:
    """Builds the random changes applied to training images.

    Horizontal flips, rotation by any angle, contrast (x 0.8 to 1.2) and brightness
    (+- 0.1 of the range). Active only when called with `training=True`, as `fit` does.

    Args:
        strength: by which the ranges of contrast, brightness and, below 1, rotation are
            multiplied, from 0 to 5; 0 changes nothing at all.

    Returns:
        A `keras.Sequential` from float or uint8 images of shape (batch, height, width, 3) in
        0..255 to float32 images of the same shape and range.

    Raises:
        UserError: when the strength is out of range.

    Example:

    ```python
    changed = build_augmentation()(images, training=True)
    ```
    """
    if not 0 <= strength <= 5:
        raise UserError(f"strength must be from 0 to 5. Received: {strength}.")
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomRotation(_TURNS * min(strength, 1), fill_mode="reflect"),
        keras.layers.RandomContrast(0.2 * strength, value_range=(0, 255)),
        keras.layers.RandomBrightness(0.1 * strength, value_range=(0, 255)),
    ]
    return keras.Sequential(layers if strength else layers[1:], name="augmentation")
