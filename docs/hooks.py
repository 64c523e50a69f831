"""Puts the notebooks into the site, and their executed pages where `make run` has made them."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is in `notebooks/`."""
    for path in sorted(NOTEBOOKS.glob("[0-9]*.*")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to the executed page of a notebook rather than to the notebook, where there is one."""
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        if path.with_suffix(".html").is_file():
            markdown = markdown.replace(f"(notebooks/{path.name})", f"(notebooks/{path.stem}.html)")
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Keeps options and intervals on one line: browsers break between the hyphens of `--out`."""
    html = re.sub(r"(?<=\d) to (?=\d)", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}", html)
    option = r"(?<![\w-])--[a-z0-9-]+"
    return re.sub(
        r"<code>[^<]+</code>",
        lambda span: re.sub(option, r'<span class="option">\g<0></span>', span[0]),
        html,
    )
