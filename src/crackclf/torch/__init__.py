"""The same task in PyTorch: a ResNet18 with its own Dataset and training loop."""

from crackclf.torch.dataset import CrackDataset
from crackclf.torch.fit import predict_resnet18, train_resnet18
from crackclf.torch.graph import TorchGraph
from crackclf.torch.network import ResNet18, build_resnet18, load_resnet18

__all__ = [
    "CrackDataset",
    "ResNet18",
    "TorchGraph",
    "build_resnet18",
    "load_resnet18",
    "predict_resnet18",
    "train_resnet18",
]
