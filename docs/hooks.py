"""Puts the notebooks into the site, and their executed pages where `make run` has made them."""

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
