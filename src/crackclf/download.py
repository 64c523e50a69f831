"""METU's concrete crack images: downloaded or taken from an archive, checked and unpacked."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from crackclf.errors import UserError, notice, show
from crackclf.files import check_new_folder, sha256, user_path

CLASS_NAMES = ("Negative", "Positive")
PAGE = "https://doi.org/10.17632/5y9wdsg2zt.2"
URL = (
    "https://data.mendeley.com/public-files/datasets/5y9wdsg2zt/files/"
    "8a70d8a5-bce9-4291-bab9-b48cfb3e87c3/file_downloaded"
)
SHA256 = "08d7dc505a4f5a0330cee2fa2a1ae4b5b4f98bcffd0549b774caf7959bb1f02f"
IMAGES = 40_000
# The programs that unpack a RAR, the most reliable first: 7-Zip may lack the format, and unar
# silently skips a file stored as a reference to an equal one.
_PROGRAMS = {
    "unrar": "x -y {archive} {folder}/",
    "7zz": "x -y -bd -o{folder} {archive}",
    "7z": "x -y -bd -o{folder} {archive}",
    "bsdtar": "-x -f {archive} -C {folder}",
    "unar": "-quiet -no-directory -output-directory {folder} {archive}",
}
_INSTALL = (
    f"Expected one of {', '.join(_PROGRAMS)} on PATH: install one (Debian and Ubuntu: apt install "
    "libarchive-tools; macOS: brew install unar; Windows: 7-Zip) and run the same command again."
)


def download_metu(
    directory: str | os.PathLike[str], archive: str | os.PathLike[str] | None = None
) -> Path:
    """Makes a folder of the 40,000 patches of Concrete Crack Images for Classification.

    The download of 241 MB is checked by its SHA-256 digest. It is kept beside the folder
    (`metu.download.rar` for `metu`) until the images are unpacked, for a second try. The folder
    appears under its name once it is complete.

    Args:
        directory: folder to make; must not exist.
        archive: the same RAR, downloaded before; it is not changed. None to download it.

    Returns:
        Path of the folder, which holds `Negative/` and `Positive/`.

    Raises:
        UserError: when the folder exists, the download fails, or the archive cannot be unpacked.

    Examples:
        >>> folder = download_metu("data/metu")
        >>> print(len(list(folder.glob("Positive/*.jpg"))))

    Reference:
        Özgenel, [Concrete Crack Images for Classification](https://doi.org/10.17632/5y9wdsg2zt.2),
        version 2, Mendeley Data, 2019; licence CC BY 4.0.
    """
    target = check_new_folder(directory)
    rar = target.with_name(f"{target.name}.download.rar")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".crackclf-", dir=target.parent) as draft:
            source = _download(rar) if archive is None else user_path(archive)
            if not source.is_file() or sha256(source) != SHA256:
                reason = f"is not the RAR of {PAGE} by its SHA-256. Unpack another yourself"
                raise UserError(f"{show(source)}: {reason}.")
            _unrar(source, Path(draft, "rar")).replace(target)
    except OSError as error:
        raise UserError(f"{show(target)}: was not made: {error.strerror or error}.") from error
    if archive is None:
        rar.unlink()
    return target


def _download(file: Path) -> Path:
    import pooch

    if not any(map(shutil.which, _PROGRAMS)):  # Better told now than after 241 MB.
        raise UserError(f"{URL}: is a RAR. {_INSTALL}")
    try:
        pooch.retrieve(URL, f"sha256:{SHA256}", file.name, file.parent, progressbar=True)
    except (OSError, ValueError) as error:  # ValueError: another digest.
        raise UserError(
            f"{URL}: cannot be downloaded: {error}. Run the same command again, or download it "
            f"with a browser from {PAGE} and pass the file (--archive FILE, archive= in Python)."
        ) from error
    return file


def _unrar(archive: Path, folder: Path) -> Path:
    reason = "no program"
    for program in filter(shutil.which, _PROGRAMS):
        notice(f"unpacking {archive.name} with {program}")
        folder.mkdir()
        paths = {"archive": archive.resolve(), "folder": folder.resolve()}
        words = [word.format(**paths) for word in _PROGRAMS[program].split()]
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        for place in (folder, *folder.rglob("*/")):  # That of the class folders.
            if sum(1 for name in CLASS_NAMES for _ in place.glob(f"{name}/*.jpg")) == IMAGES:
                return place
        shutil.rmtree(folder)
        reason = f"{program}: {done.stderr.strip()[-200:]}"
    expected = f"into {IMAGES:,} images of {' and '.join(CLASS_NAMES)}"
    raise UserError(f"{archive}: cannot be unpacked {expected} ({reason}). {_INSTALL}")
