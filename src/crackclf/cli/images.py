"""The commands that get images to learn from."""

from pathlib import Path

import typer

from crackclf.cli.options import JSON, NEW_FOLDER, SPLITTABLE, option, result, write_json
from crackclf.errors import UserError, learning, notice
from crackclf.files import check_new_folder, user_path, write_whole


def sample(
    directory: Path = NEW_FOLDER,
    count: int = option(1200, "Number of images, half of them cracked."),
    seed: int = option(0, "Chooses the images.", min=0, max=2**32 - 1),
    photos: bool = option(False, "Draw whole photos, with masks of their cracks.", "--photos"),
) -> None:
    """Draws images of cracked and sound concrete, to try crackclf on.

    The same seed draws the same images. A larger sample contains the smaller.

    Examples:
      crackclf sample data/sample --count 1200 --seed 0
      crackclf sample data/photos --count 6 --photos
    """
    from crackclf.sample import write_photos, write_sample

    try:
        print((write_photos if photos else write_sample)(user_path(directory), count, seed))
    except ValueError as error:  # Its package knows nothing of `UserError`.
        raise UserError(str(error)) from None


def download(
    directory: Path = NEW_FOLDER,
    archive: Path | None = option(None, "The RAR, when it is here."),
) -> None:
    """Downloads the 40,000 concrete patches of METU (241 MB).

    Concrete Crack Images for Classification, by Özgenel, CC BY 4.0:
    https://doi.org/10.17632/5y9wdsg2zt.2

    Unpacking needs unrar, 7zz, 7z, unar or bsdtar (libarchive-tools).

    Examples:
      crackclf download data/metu
      crackclf download data/metu --archive ~/Downloads/metu.rar
    """
    from crackclf.download import download_metu

    print(f"{download_metu(directory, archive)}: 40,000 images")


def audit(
    directory: Path = SPLITTABLE,
    csv_file: Path | None = result("Also write a table to this file.", "--csv", "file,finding,"),
    json_file: Path | None = JSON,
    quarantine: Path | None = option(None, "New folder for copies of the files to look at."),
) -> None:
    """Checks a folder of images before a training.

    It lists files that cannot be read, copies, near-copies, images that are
    in more than one class, odd sizes, and labels that may be wrong. Labels
    are checked by cross-validation. Nothing is moved, changed or deleted.
    The exit status is 0 for a clean folder and 1 for one with findings.

    Examples:
      crackclf audit data/metu --csv metu.csv
      crackclf audit data/metu --json metu.json --quarantine metu-odd
    """
    if quarantine is not None:
        quarantine = check_new_folder(quarantine)
    with learning():
        from crackclf.audit import audit as audit_folder
        from crackclf.audit import copy_findings

    found = audit_folder(directory)
    print(found)
    if csv_file is not None:
        write_whole(csv_file, found.to_csv())
    write_json(json_file, found.to_dict())
    if quarantine is not None and not copy_findings(found, quarantine):
        notice(f"no files to look at, so {quarantine} was not made")
    raise typer.Exit(1 if found.findings else 0)
