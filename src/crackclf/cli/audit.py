"""`crackclf audit`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from crackclf.cli import options
from crackclf.errors import UserError, notice
from crackclf.quiet import import_tensorflow


def audit(
    directory: options.Splittable,
    json_file: options.Json = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Also write a page with pictures to this file.", metavar="FILE"
        ),
    ] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option(
            help="Also copy the files to look at into this new folder, with the reasons.",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Checks a folder of images before a training.

    It lists files that cannot be read, copies, near-copies, images that are
    in more than one class, odd sizes, and labels that may be wrong. Labels
    are checked by cross-validation. Nothing is moved, changed or deleted.

    The exit status is 0 for a clean folder and 1 for one with findings.

    Examples:
      crackclf audit data/metu --html metu.html
      crackclf audit data/metu --json metu.json --quarantine metu-odd
    """
    from crackclf.audit.page import HEAD, render_audit
    from crackclf.files import check_result_path, user_path, write_whole

    for path, head in ((json_file, options.RESULT_HEAD), (html_file, HEAD)):
        if path is not None:
            check_result_path(path, head)
    if quarantine is not None:
        quarantine = user_path(quarantine)
        if os.path.lexists(quarantine):
            raise UserError(f"{quarantine}: already exists. Name a folder that does not exist.")
    import_tensorflow()
    from crackclf.audit.audit import audit as audit_folder
    from crackclf.audit.audit import copy_odd

    found = audit_folder(directory)
    print(found)
    if json_file is not None:
        options.write_result(json_file, found.to_dict())
    if html_file is not None:
        write_whole(user_path(html_file), render_audit(found))
    if quarantine is not None and not copy_odd(found, quarantine):
        notice(f"no files to look at, so {quarantine} was not made")
    raise typer.Exit(1 if found.findings else 0)
