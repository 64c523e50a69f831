"""Commands about folders of images."""

import json
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options


def download(
    directory: Annotated[Path, typer.Argument(help="Folder to make; must not exist.")],
    archive: Annotated[
        Path | None,
        typer.Option(
            help="From this file, downloaded before, instead of the network: the RAR, or a ZIP of "
            "the two folders. It is left as it is.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Downloads METU's 40,000 concrete patches, cracked and sound.

    Concrete Crack Images for Classification (Özgenel, https://doi.org/10.17632/5y9wdsg2zt.2,
    CC BY 4.0): 241 MB, to which one of unrar, 7zz, 7z, bsdtar and unar is needed (Debian and
    Ubuntu: apt install libarchive-tools). Interrupted, and started again, it goes on: what has
    come is kept beside the folder (data/metu.rar.part), and removed once the images are there.

    \b
    Examples:
      crackclf download data/metu
      crackclf download data/metu --archive ~/Downloads/archive.zip
    """
    from crackclf.data.download import CLASS_NAMES, download_metu

    with options.resumable():
        folder = download_metu(directory, archive)
    counts = [f"{len(list((folder / name).iterdir())):,} {name}" for name in CLASS_NAMES]
    print(f"{folder}: {', '.join(counts)}")


def sample(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    count: Annotated[int, typer.Option(help="Number of images, half of them cracked.")] = 1200,
    seed: Annotated[
        int, typer.Option(min=0, max=options.MAX_SEED, help="Same seed, same images.")
    ] = 0,
    photos: Annotated[
        bool, typer.Option("--photos", help="Whole photos and masks of their cracks instead.")
    ] = False,
) -> None:
    """Draws concrete patches, cracked and sound, to try everything on.

    \b
    Examples:
      crackclf sample data/sample --count 1200 --seed 0
      crackclf sample data/photos --count 6 --photos
    """
    from crackclf.data.sample import write_photos, write_sample

    print((write_photos if photos else write_sample)(directory, count, seed))


def audit(
    directory: options.Splittable,
    json_file: options.Json = None,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", help="Also write a page with pictures there.", metavar="FILE"),
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            help="Folder to make, with copies of the files that want looking at and the reasons.",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Says what is wrong with a folder of images before anything is trained on it.

    Files that cannot be read, copies and near-copies, the same picture under both classes, odd
    sizes, and labels that may be wrong: to judge these, the images go once through a base and a
    linear model is cross-validated on its features. Nothing is moved, changed or deleted. Exit
    status 0 when the folder is clean, 1 when it is not.

    \b
    Examples:
      crackclf audit data/metu --html metu.html
      crackclf audit data/metu --json metu.json --quarantine metu-odd
    """
    from crackclf.data.files import check_result_path, write_whole
    from crackclf.models.saving import check_new_folder
    from crackclf.training.audit import audit as audit_folder
    from crackclf.training.audit import copy_odd
    from crackclf.training.audit_page import HEAD, render_audit

    for path, head in ((json_file, options.RESULT_HEAD), (html_file, HEAD)):
        if path is not None:
            check_result_path(path, head)
    if quarantine is not None:
        check_new_folder(quarantine)
    found = audit_folder(directory)
    print(found)
    if json_file is not None:
        result = {"written_by": "crackclf"} | found.to_dict()
        write_whole(json_file, json.dumps(result, indent=2) + "\n")
    if html_file is not None:
        write_whole(html_file, render_audit(found))
    if quarantine is not None:
        copy_odd(found, quarantine)
    raise typer.Exit(1 if found.findings else 0)
