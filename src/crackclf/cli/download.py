"""`crackclf download`."""

from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options


def download(
    directory: Annotated[Path, typer.Argument(help="Folder to make. It must not exist.")],
    archive: Annotated[
        Path | None,
        typer.Option(
            help="An archive that is already here: the RAR, or a ZIP of the two folders. It is "
            "not changed.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Downloads the 40,000 concrete patches of METU (241 MB).

    Concrete Crack Images for Classification, by Özgenel, CC BY 4.0:
    https://doi.org/10.17632/5y9wdsg2zt.2

    Unpacking needs unrar, 7zz, 7z, bsdtar or unar. On Debian and Ubuntu:
    apt install libarchive-tools. To go on after an interruption, run the
    same command again. The part received is kept in data/metu.rar.part.

    Examples:
      crackclf download data/metu
      crackclf download data/metu --archive ~/Downloads/archive.zip
    """
    from crackclf.data.metu import CLASS_NAMES, download_metu

    with options.resumable():
        folder = download_metu(directory, archive)
    counts = [f"{len(list((folder / name).iterdir())):,} {name}" for name in CLASS_NAMES]
    print(f"{folder}: {', '.join(counts)}")
