import dataclasses
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import build_card, build_small, draw_blot, run
from crackclf.data.loading import load_datasets
from crackclf.errors import UserError
from crackclf.features.cache import cache_features
from crackclf.prediction.predict import predict
from crackclf.ray import Predictor
from crackclf.training import stages

if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def quick_start(tmp_path_factory):
    """Keeps a package that only notebooks need, and that takes seconds, out of Ray's processes."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def ray_cluster(quick_start):
    """A cluster of two CPUs on this machine."""
    from crackclf.ray.cluster import connected, ray

    with connected(cpus=2):
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield ray


@pytest.fixture(scope="module")
def cluster(quick_start):
    """The module, which imports Ray."""
    from crackclf.ray import answers as cluster

    return cluster


@pytest.fixture(scope="module")
def saved(save_keras, tmp_path_factory):
    return save_keras(tmp_path_factory.mktemp("models") / "model", build_card())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """21 images in folders, one of them broken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site" / "inner").mkdir(parents=True)
    (tmp_path / "site" / ".hidden").mkdir()
    for i in range(20):
        Image.new("L", (40, 32), 12 * i).save(f"site/{'inner/' * (i % 2)}{i:02}.png")
    Path("site/broken.jpg").write_bytes(b"")
    Path("site/notes.txt").write_text("no image")
    Path("site/.hidden/a.png").write_bytes(b"")
    return Path("site")


@pytest.fixture
def compute_on_cluster(quick_start):
    from crackclf.ray.features import compute_on_cluster

    return compute_on_cluster


@pytest.fixture
def here(cluster, monkeypatch):
    """Does a cluster's work in this process, and lists the blocks that it did."""
    blocks_done = []

    def map_blocks(prepare, blocks, address=None):
        work = prepare()
        for block in blocks:
            blocks_done.append(block)
            yield from work(block)

    monkeypatch.setattr(cluster, "map_blocks", map_blocks)
    monkeypatch.setattr("crackclf.ray.features.map_blocks", map_blocks)
    for name in ("CUDA_VISIBLE_DEVICES", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))  # What a worker sets is undone.
    monkeypatch.setattr(cluster, "_BATCHES", 1)
    monkeypatch.setattr("crackclf.ray.carried.Predictor.images", 4)
    return blocks_done


def rows(folder):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder).to_pylist()


def check_rows(folder, images, saved):
    """Each image has one row, and it says what `predict` says."""
    found = sorted(rows(folder), key=lambda row: row["file"])
    expected = predict(images, saved)
    assert [row["file"] for row in found] == sorted(p.file for p in expected)
    by_file = {p.file: p for p in expected}
    for row in found:
        p = by_file[row["file"]]
        assert (row["label"], row["error"]) == (p.label, p.error)
        assert row["probability"] == pytest.approx(p.probability, abs=1e-5)


def make_dying(saved, marker):

    class Dying(Predictor):
        """Its process is killed in the middle of its work, once."""

        images = 4

        def __call__(self, batch):
            found = super().__call__(batch)
            if "site/10.png" in batch["path"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return found

    return Dying(saved)


def test_a_worker_killed_in_the_middle_costs_no_row(
    ray_cluster, cluster, folder, saved, tmp_path, monkeypatch
):

    monkeypatch.setattr(cluster, "_BATCHES", 1)
    model = make_dying(saved, tmp_path / "killed")
    outcome = cluster.map_images(model, [folder], "out")
    assert (tmp_path / "killed").exists()
    check_rows("out", folder, saved)
    assert (outcome.images, outcome.counts) == (21, {"Negative": 9, "Positive": 11})
    assert (outcome.unreadable, outcome.errors[0][:25]) == (1, "site/broken.jpg: is empty")
    assert Path("out/_SUCCESS").exists()
    monkeypatch.setattr(cluster, "map_blocks", None)
    assert cluster.map_images(model, [folder], "out") == outcome


def refuse():
    raise UserError("this worker will not")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (refuse, "this worker will not"),
        (die, r"3 workers died over the same block, .* with a\.png"),
    ],
)
def test_a_block_that_no_worker_can_do_ends_the_run_in_one_line(prepare, told, ray_cluster):
    from crackclf.ray.cluster import map_blocks, pyarrow

    with pytest.raises(UserError, match=f"^on a machine of the cluster: {told}"):
        list(map_blocks(prepare, [pyarrow.table({"file": ["a.png"]})]))


def test_a_cluster_on_this_machine_cannot_be_reached_from_another(ray_cluster):
    assert {node["NodeManagerAddress"] for node in ray_cluster.nodes()} == {"127.0.0.1"}


def test_features_of_a_cluster_are_those_of_this_machine_bit_by_bit(
    ray_cluster, compute_on_cluster, sample, tmp_path
):
    shutil.copytree(sample, tmp_path / "images", ignore=shutil.ignore_patterns(".crackclf"))
    data = load_datasets(tmp_path / "images", image_size=32)
    model = build_small()
    folder = data.directory / ".crackclf" / "features"
    expected = {name: x[:] for name, x in cache_features(model, data, views=1).items()}
    shutil.rmtree(folder)
    found = cache_features(model, data, views=1, mapper=compute_on_cluster)
    for subset, features in expected.items():
        np.testing.assert_array_equal(found[subset][:], features)


def test_a_cluster_that_cannot_do_all_says_so(
    compute_on_cluster, sample, tmp_path, here, monkeypatch
):
    shutil.copytree(sample, tmp_path / "images", ignore=shutil.ignore_patterns(".crackclf"))
    data = load_datasets(tmp_path / "images", image_size=32)
    image = data.files["train"][-1]
    image.rename(tmp_path / "elsewhere.jpg")
    with pytest.raises(UserError, match="file system that all machines see at the same place"):
        cache_features(build_small(), data, mapper=compute_on_cluster)
    (tmp_path / "elsewhere.jpg").rename(image)
    monkeypatch.setattr("crackclf.ray.features.map_blocks", lambda *_: iter(()))
    with pytest.raises(UserError, match=r"left (\d+) of \1 blocks of features undone"):
        cache_features(build_small(), data, mapper=compute_on_cluster)


def test_folders_and_object_stores_get_the_same_rows(folder, saved, cluster, here):

    uri = folder.absolute().as_uri()
    cluster.map_images(Predictor(saved), [folder, "site/00.png"], "local")
    cluster.map_images(Predictor(saved), [uri, f"{uri}/00.png"], "store")
    local, store = ({row["file"]: row for row in rows(x)} for x in ("local", "store"))
    assert len(local) == 21
    assert {f"{uri.removesuffix('/site')}/{name}" for name in local} == store.keys()
    for name, row in local.items():
        other = store[f"{uri.removesuffix('/site')}/{name}"]
        assert (other["label"], other["probability"]) == (row["label"], row["probability"])
        assert row["error"].replace(name, other["file"]) == other["error"]


@pytest.mark.parametrize("path", ["nowhere", "file:///nowhere", "s4://bucket", "empty", "EMPTY"])
def test_paths_that_name_no_image_are_errors(path, tmp_path, monkeypatch):
    from crackclf.ray.sources import list_images

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "empty" / ".hidden" / "a.png").write_bytes(b"")
    path = (tmp_path / "empty").as_uri() if path == "EMPTY" else path
    with pytest.raises(UserError, match=path):
        list_images([path])


def test_files_of_any_name_and_files_that_are_gone_have_rows(
    saved, cluster, here, tmp_path, monkeypatch
):

    for name in (b"a\xff.png", b"gone.png"):
        Image.new("L", (32, 32)).save(os.fsdecode(os.fsencode(tmp_path) + b"/" + name), "PNG")
    listing = cluster.list_images

    def list_and_lose(paths):
        found = listing(paths)
        (tmp_path / "gone.png").unlink()
        return found

    monkeypatch.setattr(cluster, "list_images", list_and_lose)
    outcome = cluster.map_images(Predictor(saved), [tmp_path], tmp_path / "out")
    assert (outcome.images, outcome.counts) == (2, {"Positive": 1})
    assert outcome.errors == (f"{tmp_path}/gone.png: No such file or directory",)
    assert f"{tmp_path}/a\\xff.png" in {row["file"] for row in rows(tmp_path / "out")}


def test_an_interrupted_run_goes_on_with_what_is_missing(folder, saved, cluster, here, monkeypatch):

    work = cluster.map_blocks

    def interrupted(*arguments):
        for number, table in enumerate(work(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield table

    model = Predictor(saved)
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "map_blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.map_images(model, [folder], "out")
    assert len(rows("out")) == 12
    assert not Path("out/_SUCCESS").exists()
    here.clear()
    assert cluster.map_images(model, [folder], "out").images == 21
    assert sum(map(len, here)) == 9
    check_rows("out", folder, saved)

    Image.new("L", (32, 32)).save("site/new.png")
    here.clear()
    assert cluster.map_images(model, [folder], "out").images == 22
    assert sum(map(len, here)) == 1


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: [*rows, rows[0]]])
def test_a_row_too_few_or_too_many_is_told_and_the_run_is_not_called_done(
    change, folder, saved, cluster, here, monkeypatch
):

    work = cluster.map_blocks
    wrong = lambda *arguments: (x for x in change(list(work(*arguments))))
    monkeypatch.setattr(cluster, "map_blocks", wrong)
    with pytest.raises(UserError, match="expected one row for each of 21 images"):
        cluster.map_images(Predictor(saved), [folder], "out")
    assert not Path("out/_SUCCESS").exists()


def test_what_is_in_the_way_is_left_alone(folder, saved, cluster, here, tmp_path):

    model = Predictor(saved)
    cluster.map_images(model, [folder / "00.png"], "out")
    changed = Predictor(saved)
    card = dataclasses.replace(changed.classifier.card, sha256={"model.keras": "0" * 64})
    changed.classifier = dataclasses.replace(changed.classifier, card=card)
    (tmp_path / "file").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "part-00000.parquet").write_bytes(b"not ours")
    before = {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()}
    for predictor, image, out, told in (
        (changed, "00.png", "out", "another model"),
        (model, "02.png", "out", "rows of 1 images that are not among those named, site/00.png"),
        (model, "00.png", "site", "not written by crackclf"),
        (model, "00.png", "file", "not written by crackclf"),
        (model, "00.png", "others", "not written by crackclf"),
    ):
        with pytest.raises(UserError, match=told):
            cluster.map_images(predictor, [folder / image], out)
    assert {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()} == before


def test_addresses_where_no_cluster_is_are_told_at_once(monkeypatch):
    from crackclf.ray import cluster

    monkeypatch.setattr(cluster, "_PATIENCE", 0.1)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{address}: no Ray cluster answers there"):
            cluster.check_address(address)  # Nobody listens.
        mute.listen()
        with pytest.raises(UserError, match=f"{address}: no Ray cluster answers there"):
            cluster.check_address(address)  # Somebody listens, and says nothing.
    for address in ("ray://host:10001", "host", "host:", ":6379"):
        with pytest.raises(UserError, match="as HOST:PORT"):
            cluster.check_address(address)


def test_without_ray_the_package_to_install_is_named():
    code = "import sys; sys.modules['ray'] = None; from crackclf.cli import main; main()"
    arguments = ["predict", ".", "--engine", "ray", "--parquet", "out"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'crackclf[ray]'" in done.stderr.splitlines()[-1]


def test_predict_prints_how_many_are_cracked_and_what_could_not_be_read(
    folder, saved, here, monkeypatch, capsys
):
    arguments = ("predict", "site", "--model", saved, "--engine", "ray", "--parquet", "out")
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["9", "Negative"],
        ["11", "Positive"],
        ["out"],
    ]
    assert "broken.jpg: is empty" in said.err
    assert "1 of 21 images could not be read" in said.err.splitlines()[-1]


def test_inspect_writes_regions(inspector, save_keras, here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_keras("model", inspector.card)
    Path("site").mkdir()
    draw_blot((30, 20, 80, 60)).save("site/dark.png")
    draw_blot().save("site/light.png")
    arguments = ("inspect", "site", "--model", "model", "--engine", "ray", "--parquet", "out")
    assert run(monkeypatch, *arguments) == 0
    found = {row["file"]: row for row in rows("out")}
    assert [found[f"site/{x}.png"]["regions"] for x in ("dark", "light")] == [1, 0]
    assert [found[f"site/{x}.png"]["verdict"] for x in ("dark", "light")] == [
        "Positive",
        "Negative",
    ]
    assert capsys.readouterr().out.split() == ["1", "Negative", "1", "Positive", "out"]


def test_train_asks_the_cluster_for_features(compute_on_cluster, sample, tmp_path, monkeypatch):
    class Asked(Exception):  # noqa: N818
        pass

    def ask(model, data, views, mapper):
        raise Asked(views, mapper.func, mapper.keywords)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "cache_features", ask)
    options = ("--weights", "random", "--image-size", 32, "--engine", "ray", "--views", 2)
    with pytest.raises(Asked) as caught:
        run(monkeypatch, "train", sample, *options, "--out", "a")
    assert caught.value.args == (2, compute_on_cluster, {"address": None})
    assert run(monkeypatch, "train", sample, *options[:-2], "--no-cache-features") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "site", "--address", "127.0.0.1:6379"),
        ("predict", "site", "--parquet", "out"),
        ("predict", "site", "--engine", "ray"),
        ("predict", "site", "--engine", "ray", "--parquet", "out", "--csv", "a.csv"),
        ("predict", "site", "--engine", "ray", "--parquet", "out", "--address", "127.0.0.1:1"),
        ("predict", "site", "--engine", "spark"),
        ("inspect", "site", "--engine", "ray", "--parquet", "out", "--out", "inspection"),
        ("train", "site", "--address", "127.0.0.1:6379"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, folder, monkeypatch, capsys):
    before = sorted(folder.parent.rglob("*"))
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err
    assert sorted(folder.parent.rglob("*")) == before
