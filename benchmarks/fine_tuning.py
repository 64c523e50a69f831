r"""What fine-tuning the last blocks is worth against the frozen base, on photos never seen.

    python benchmarks/fine_tuning.py data/sdnet2018 --group-by '(\d+)-'

For each seed another split by photo. A head is trained on the frozen base and measured on the test
photos; then the last blocks are trained with it and it is measured again. Intervals are of draws of
whole photos. --time adds how long fine-tuning takes with and without the cache, as many epochs
each, without early stopping.
"""

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer

import crackclf
from crackclf import predict_features
from crackclf.evaluation.intervals import group_intervals


def main(
    directory: Annotated[Path, typer.Argument(help="Folder with one folder of images per class.")],
    group_by: Annotated[str, typer.Option(help="What names the photo.")] = r"(\d+)-",
    seeds: Annotated[str, typer.Option(help="Of split and training.")] = "0,1,2",
    blocks: Annotated[int, typer.Option(help="To fine-tune.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="Of fine-tuning.")] = 1e-4,
    views: Annotated[int, typer.Option(help="Augmented views of each training image.")] = 4,
    timed: Annotated[bool, typer.Option("--time", help="Time it, too, of the first seed.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write there.")] = None,
) -> None:
    """Measures fine-tuning."""
    results = []
    settings = {"views": views, "verbose": 0}
    with tempfile.TemporaryDirectory() as folder:
        for seed in map(int, seeds.split(",")):
            data = crackclf.load_datasets(directory, seed=seed, group_by=group_by)
            logs = Path(folder) / str(seed)
            model = crackclf.build_model(seed=seed)
            start = time.perf_counter()
            callbacks = crackclf.build_callbacks(logs / "frozen")
            crackclf.train(model, data, callbacks, 15, **settings)
            results.append(measure("frozen", seed, model, data, group_by, start))
            start = time.perf_counter()
            callbacks = crackclf.build_callbacks(logs / "tuned")
            crackclf.fine_tune(model, data, callbacks, 15, blocks, learning_rate, **settings)
            results.append(measure("fine-tuned", seed, model, data, group_by, start))
        if timed:
            results += time_both(directory, group_by, blocks, views, Path(folder))
    show(results)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=2) + "\n")


def measure(row, seed, model, data, group_by, start) -> dict:
    said = predict_features(model, data)
    seconds = time.perf_counter() - start
    report = crackclf.compute_report(data.labels["test"], said, data.class_names)
    positive = data.class_names.index(report.positive_class)
    photos = [re.search(group_by, path.name)[1] for path in data.files["test"]]
    return {
        "row": row,
        "seed": seed,
        "n": report.n,
        "photos": len(set(photos)),
        "balanced_accuracy": report.balanced_accuracy,
        "auroc": report.auroc,
        "loss": report.loss,
        "seconds": seconds,
        "intervals": group_intervals(data.labels["test"] == positive, said[:, positive], photos),
    }


def time_both(directory: Path, group_by: str, blocks: int, views: int, folder: Path) -> list[dict]:
    """Five epochs of fine-tuning, cached and not; nothing is cached before."""
    times = []
    for cached in (True, False):
        copy = folder / f"timed-{cached}"
        for path in directory.glob("*/*.*"):
            target = copy / path.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.resolve())
        data = crackclf.load_datasets(copy, group_by=group_by)
        model = crackclf.build_model()
        start = time.perf_counter()
        crackclf.fine_tune(
            model,
            data,
            crackclf.build_callbacks(folder / f"logs-{cached}", patience=None),
            epochs=5,
            blocks=blocks,
            cache_features=cached,
            views=views,
            verbose=0,
        )
        times.append({"row": f"5 epochs, {'' if cached else 'not '}cached"})
        times[-1]["seconds"] = time.perf_counter() - start
    return times


def show(results: list[dict]) -> None:
    print("| | seed | test patches (photos) | balanced accuracy | AUROC | loss | seconds |")
    print("|---|---|---|---|---|---|---|")
    for result in results:
        cells = [result["row"], "", "", "", "", "", f"{result['seconds']:.0f}"]
        if "seed" in result:
            cells[1:3] = [str(result["seed"]), f"{result['n']} ({result['photos']})"]
            for at, name in ((3, "balanced_accuracy"), (4, "auroc")):
                low, high = result["intervals"][name]
                cells[at] = f"{result[name]:.4f} ({low:.3f} to {high:.3f})"
            cells[5] = f"{result['loss']:.4f}"
        print("| " + " | ".join(cells) + " |")
    for row in ("frozen", "fine-tuned"):
        of_row = [result for result in results if result["row"] == row]
        means = [
            np.mean([x[name] for x in of_row]) for name in ("balanced_accuracy", "auroc", "loss")
        ]
        print(f"| {row}, mean | | | " + " | ".join(f"{mean:.4f}" for mean in means) + " | |")


if __name__ == "__main__":
    typer.run(main)
