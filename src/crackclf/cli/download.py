"""crackclf download."""

from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options


def download(
    directory: Annotated[Path, typer.Argument(help="Folder to make; must not exist.")],
    archive: Annotated[
        Path | None,
        typer.Option(
            help="A file downloaded before, instead of the network: the RAR, or a ZIP of the two "
            "folders. It is not changed.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Downloads METU's 40,000 concrete patches, cracked and sound.

    Concrete Crack Images for Classification (Özgenel, https://doi.org/10.17632/5y9wdsg2zt.2,
    CC BY 4.0), 241 MB. Unpacking takes one of unrar, 7zz, 7z, bsdtar and unar (Debian and Ubuntu:
    apt install libarchive-tools). An interrupted download goes on when the command is run again:
    until the images are there, what was received is kept beside the folder (data/metu.rar.part).

    \b
    Examples:
      crackclf download data/metu
      crackclf download data/metu --archive ~/Downloads/archive.zip
    """
    from crackclf.data.metu import CLASS_NAMES, download_metu

    with options.resumable():
        folder = download_metu(directory, archive)
    counts = [f"{len(list((folder / name).iterdir())):,} {name}" for name in CLASS_NAMES]
    print(f"{folder}: {', '.join(counts)}")
