import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.models.weights import MissingWeightsError
from crackclf.torch import ResNet18, build_resnet18, load_resnet18
from crackclf.torch.pytorch import torch, torchvision

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A state dict as torchvision publishes it, of a thousand classes, in the mirror folder."""
    torch.manual_seed(1)
    whole = torchvision.models.resnet18()
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(tmp_path))
    return whole.eval()


def test_the_mirror_folders_state_dict_is_loaded_but_for_its_top(published):
    model = build_resnet18()
    assert model.weights_origin.startswith("resnet18.pth, sha256 ")
    assert model.fc.out_features == 2
    for name, value in published.state_dict().items():
        if not name.startswith("fc."):
            torch.testing.assert_close(model.state_dict()[name], value)


def test_it_normalises_as_torchvision_does_and_then_is_torchvisions(published):
    model = build_resnet18().eval()
    published.fc = model.fc
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    scaled = images / 255
    normalised = (scaled - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    torch.testing.assert_close(model(images), published(normalised), atol=1e-4, rtol=1e-4)


def test_frozen_means_all_but_the_new_layer_and_batchnorms_statistics_too():
    model = build_resnet18(weights="random")
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert trained == ["fc.weight", "fc.bias"]
    before = model.bn1.running_mean.clone()
    model.train()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    torch.testing.assert_close(model.bn1.running_mean, before)


def test_not_frozen_means_that_every_layer_learns():
    model = build_resnet18(weights=None, frozen=False)
    assert all(value.requires_grad for value in model.parameters())
    before = model.bn1.running_mean.clone()
    model.train()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    assert not torch.equal(model.bn1.running_mean, before)


def test_weights_that_cannot_be_had_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*_, **__):
        raise OSError("urlopen error")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(MissingWeightsError, match=r"with resnet18\.pth.*resnet18-f37072fd"):
        build_resnet18()


@pytest.mark.parametrize(
    ("weights", "words"),
    [("concrete", "are a MobileNetV2's"), ("gone.pth", r"gone\.pth: no such weights file")],
)
def test_weights_of_another_kind_are_refused(weights, words):
    with pytest.raises(UserError, match=words):
        build_resnet18(weights)


def test_a_file_that_is_no_state_dict_is_named_and_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no")
    for name in ("evil.pth", "other.pth", "text.pth"):
        with pytest.raises(UserError, match=f"{name}: cannot be loaded as a ResNet18"):
            build_resnet18(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_a_saved_state_dict_is_loaded_from_its_path_and_its_bytes(tmp_path):
    model = build_resnet18(weights=None)
    model.save(tmp_path / "model.pt")
    with (tmp_path / "model.pt").open("rb") as file:
        loaded = [ResNet18.load(tmp_path / "model.pt"), load_resnet18(file)]
    for again in loaded:
        assert not again.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name
    plain = torchvision.models.resnet18(num_classes=2)
    plain.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))


def test_the_number_of_classes_is_read_off_the_saved_layer(tmp_path):
    model = build_resnet18(weights=None, classes=4)
    model.save(tmp_path / "model.pt")
    again = load_resnet18(tmp_path / "model.pt")
    assert again.fc.out_features == 4
    assert torch.equal(again.fc.weight, model.fc.weight)


def test_a_state_dict_of_very_many_classes_is_refused_before_a_network_is_built(tmp_path):
    large = torch.zeros(1, 1).expand(10**9, 512)
    torch.save({"fc.weight": large}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"as a ResNet18 \(1,000,000,000 classes\)"):
        load_resnet18(tmp_path / "model.pt")


class Opens:
    def __reduce__(self):
        return open, ("/etc/passwd",)


def test_nothing_but_tensors_is_unpickled(tmp_path):
    torch.save({"fc.weight": Opens()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="cannot be loaded as a ResNet18"):
        load_resnet18(tmp_path / "model.pt")
