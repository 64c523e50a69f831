"""The curves as a user sees them: TensorBoard itself, over what the callbacks wrote."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import keras
import numpy as np
import pytest
from tensorboard.plugins.hparams.api import KerasCallback

from crackclf.callbacks import build_callbacks
from crackclf.curves import read_curves


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """Two runs that differ in one setting."""
    folder = tmp_path_factory.mktemp("logs")
    x, y = np.random.default_rng(0).normal(size=(16, 4)), np.eye(2)[[0, 1] * 8]
    for dropout in (0.0, 0.5):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        run = folder / f"dropout-{dropout}"
        callbacks = [*build_callbacks(run), KerasCallback(str(run), {"dropout": dropout})]
        model.fit(x, y, 4, 5, 0, callbacks, validation_data=(x, y))  # Four steps an epoch.
    return folder


@pytest.fixture(scope="module")
def board(logs) -> Iterator[str]:
    """The address of a TensorBoard over these runs, which has read them."""
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "tensorboard.main", "--logdir", str(logs)),
            *("--host", "127.0.0.1", "--port", "0"),
            *("--load_fast", "false", "--reload_interval", "0", "--reload_task", "blocking"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if address := re.search(r"http://127\.0\.0\.1:\d+/", line):
            break
    else:
        pytest.fail("TensorBoard has not started")
    yield address[0]
    server.terminate()
    server.communicate(timeout=60)


def request(address: str, content: dict | None = None):
    body = None if content is None else json.dumps(content).encode()
    with urlopen(
        Request(address, body, {"Content-Type": "application/json"}), timeout=60
    ) as answer:
        return json.load(answer)


def test_tensorboard_shows_every_run_and_tag(board):
    tags = request(f"{board}data/plugin/scalars/tags")
    for run in ("dropout-0.0", "dropout-0.5"):
        assert {"batch_loss", "epoch_loss", "epoch_accuracy"} <= tags[f"{run}/train"].keys()
        expected = {"epoch_loss", "epoch_accuracy", "evaluation_loss_vs_iterations"}
        assert expected <= tags[f"{run}/validation"].keys()


def test_tensorboard_shows_the_validation_loss_that_was_written(board, logs):
    query = urlencode({"run": "dropout-0.5/validation", "tag": "epoch_loss"})
    series = request(f"{board}data/plugin/scalars/scalars?{query}")
    assert [step for _, step, _ in series] == [0, 1, 2, 3, 4]
    expected = read_curves(logs / "dropout-0.5")["val_loss"]
    np.testing.assert_allclose([value for _, _, value in series], expected)


def test_validation_by_step_is_on_the_axis_of_training_steps(board):
    tag = "evaluation_loss_vs_iterations"
    query = urlencode({"run": "dropout-0.0/validation", "tag": tag})
    series = request(f"{board}data/plugin/scalars/scalars?{query}")
    assert [step for _, step, _ in series] == [4, 8, 12, 16, 20]


def test_the_hparams_tab_tells_the_runs_apart(board):
    experiment = request(f"{board}data/plugin/hparams/experiment", {})
    assert [h["name"] for h in experiment["hparamInfos"]] == ["dropout"]
    metrics = {(m["name"].get("group"), m["name"]["tag"]) for m in experiment["metricInfos"]}
    assert ("validation", "epoch_loss") in metrics


@pytest.mark.extras
def test_a_browser_shows_the_loss_chart(board, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    # Without WebGL the lines are drawn as SVG, so that they can be found in the page.
    page = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path}"),
            *("--disable-3d-apis", "--virtual-time-budget=120000", "--dump-dom"),
            f"{board}?tagFilter=epoch_loss#timeseries",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    chart = page[page.index("<line-chart ") :]
    lines = re.findall(r'<path d="M([^"]+)" style="[^"]*stroke', chart)
    assert len({line for line in lines if line.count("L") == 4}) >= 4  # Two sets of two runs.
