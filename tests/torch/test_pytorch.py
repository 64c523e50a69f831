import importlib
import sys

import pytest
import tensorflow  # noqa: F401

from crackclf.errors import UserError
from crackclf.torch.pytorch import torch, torchvision


def test_it_works_in_one_process_with_tensorflow():
    # Imported in this order by themselves, torchvision would have aborted the process.
    model = torchvision.models.resnet18()
    torch.optim.Adam(model.parameters()).step()


def test_where_it_is_missing_one_error_says_how_to_install_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "crackclf.torch.pytorch")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match=r"pip install 'crackclf\[torch\]'"):
        importlib.import_module("crackclf.torch.pytorch")
