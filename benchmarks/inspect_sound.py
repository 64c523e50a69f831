"""How often the model in the box finds a region on real surfaces that show no crack.

    python benchmarks/inspect_sound.py --metu data/metu --sdnet data/sdnet2018

The threshold for regions was measured on drawn photos. Here each test patch of the model's own
split is inspected as a photo of its own: how many of the sound ones, and of the cracked ones, have
a region, with 95 % Wilson intervals; of METU and SDNET2018 apart, whose surfaces and cracks differ.
"""

import csv
from pathlib import Path
from typing import Annotated

import typer
from scipy.stats import binomtest
from tqdm import tqdm

from crackclf.data.folders import read_folder
from crackclf.inspection.photo import inspect_photo
from crackclf.prediction.classifier import load_model
from crackclf.saved.store import model_folder


def main(
    metu: Annotated[Path, typer.Option(help="METU patches: Negative/ and Positive/.")],
    sdnet: Annotated[Path, typer.Option(help="SDNET2018 patches: crack/ and no_crack/.")],
) -> None:
    """Prints the share of test patches with a region, by data set and class."""
    classifier = load_model()
    with (model_folder() / "split.csv").open(newline="", encoding="utf-8") as file:
        unseen = {row["digest"] for row in csv.DictReader(file) if row["subset"] == "test"}
    found: dict[tuple[str, str], list[bool]] = {}
    for folder in (metu, sdnet):
        images, class_names, _ = read_folder(folder)
        for image in tqdm([x for x in images if x.digest in unseen], unit=" patches"):
            regions = inspect_photo(image.path, classifier).regions
            found.setdefault((folder.name, class_names[image.label]), []).append(bool(regions))
    for (name, label), hits in sorted(found.items()):
        low, high = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
        share = sum(hits) / len(hits)
        print(f"{name:9} {label:9} {len(hits):5}  {share:.4f} ({low:.4f} to {high:.4f})")


if __name__ == "__main__":
    typer.run(main)
