"""A Dataset of crack images, and what training changes in them."""

from crackclf.data.datasets import Datasets
from crackclf.images.decode import read_photo
from crackclf.images.resize import resize
from crackclf.torch.pytorch import torch, v2

_FLIP_AND_CONTRAST = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(contrast=0.2)])


class CrackDataset(torch.utils.data.Dataset):
    """One set of a data folder as pairs of image and class index.

    An image is a float32 tensor of shape (3, image_size, image_size) in 0..255, RGB: the pixels
    that a Keras model of this data gets.

    Args:
        data: from `load_datasets`.
        subset: "train", "validation" or "test".
        augment: flip and turn images and change their light at random, by PyTorch's default
            generator; None to do so with "train" alone.

    Example:

    ```python
    image, label = CrackDataset(data, "train")[0]
    ```
    """

    def __init__(self, data: Datasets, subset: str, augment: bool | None = None):
        self.files, self.labels = data.files[subset], data.labels[subset]
        self.image_size = data.image_size
        self.augment = subset == "train" if augment is None else augment

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = resize(read_photo(self.files[index])[0], self.image_size, self.image_size)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return _augment(image) if self.augment else image, int(self.labels[index])


def _augment(image: torch.Tensor) -> torch.Tensor:
    """What `build_augmentation` does in Keras, but turned by quarters only.

    torchvision turns by other angles without reflection at the edges, and the straight borders of
    black corners look like joints. Its brightness multiplies, where Keras' adds.
    """
    turns, brightness = int(torch.randint(4, ())), torch.empty(()).uniform_(-0.1, 0.1)
    changed = torch.rot90(_FLIP_AND_CONTRAST(image / 255), turns, (1, 2))
    return (changed + brightness).clamp(0, 1) * 255
