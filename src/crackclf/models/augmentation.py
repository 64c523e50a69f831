"""What a crack looks like from the other side, turned, or in other light."""

import keras

# A crack is a crack in any orientation, so whole turns cost nothing; reflection at the edges
# avoids black corners, whose straight borders look like joints.
_TURNS = 0.5


def build_augmentation() -> keras.Sequential:
    """Builds the random changes applied to training images.

    Horizontal and vertical flips, rotation by any angle, contrast (x 0.8 to 1.2) and brightness
    (+- 0.1 of the range). Active only when called with `training=True`, as `fit` does.

    Returns:
        A `keras.Sequential` from float or uint8 images of shape (batch, height, width, 3) in
        0..255 to float32 images of the same shape and range.

    Example:

    ```python
    changed = build_augmentation()(images, training=True)
    ```
    """
    return keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal_and_vertical"),
            keras.layers.RandomRotation(_TURNS, fill_mode="reflect"),
            keras.layers.RandomContrast(0.2, value_range=(0, 255)),
            keras.layers.RandomBrightness(0.1, value_range=(0, 255)),
        ],
        name="augmentation",
    )
