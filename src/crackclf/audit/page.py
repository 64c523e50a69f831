"""An audit as an HTML page with thumbnails."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from crackclf.errors import UserError, show
from crackclf.images.decode import read_image

if TYPE_CHECKING:
    from crackclf.audit.audit import Audit

HEAD = "<!doctype html><html lang=en><meta charset=utf-8><title>crackclf audit</title>"
_SIDE, _MOST = 120, 60  # Pixels of a thumbnail; groups shown of each kind.
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
h2 { margin-top: 2em } li { margin: .2em 0 }
.group { border: 1px solid #ccc; border-radius: 4px; display: inline-flex; margin: 3px }
figure { margin: 2px; width: 122px } img { display: block; max-width: 120px }
figcaption { font-size: 11px; overflow-wrap: anywhere; color: #444 }
"""


def render_audit(audit: "Audit") -> str:
    """Renders an audit as one HTML page with thumbnails of the images it found.

    Args:
        audit: from `audit`; its images are read again.

    Returns:
        HTML that needs no other file.
    """
    files, folder = audit.files, Path(audit.directory)
    findings = "".join(f"<li>{html.escape(finding)}" for finding in audit.findings or ["clean"])
    parts = [
        HEAD,
        f"<style>{_STYLE}</style><h1>{html.escape(show(audit.directory))}</h1>",
        f"<p>{html.escape(', '.join(f'{n:,} {x}' for x, n in files.counts.items()))}",
        f"<ul>{findings}</ul>",
    ]
    labels = [((item.file, f"{item.file} {item.probability:.2f}"),) for item in audit.suspicious]
    parts += _sheet("More like the other class, the least probable label first", labels, folder)
    for title, groups in {
        "In both classes": files.contradictions,
        "In more than one of the three sets": files.leaks,
        "Look alike": files.near_copies,
        "Byte-identical": files.copies,
        "Turned by EXIF": [(name,) for name in files.turned],
    }.items():
        parts += _sheet(title, [[(name, name) for name in group] for group in groups], folder)
    if files.problems:
        rows = (f"<li>{html.escape(show(f'{x}: {why}'))}" for x, why in files.problems.items())
        parts += ["<h2>Cannot be trained on</h2><ul>", *rows, "</ul>"]
    return "\n".join(parts) + "\n"


def _sheet(title: str, groups: Sequence[Iterable[tuple[str, str]]], folder: Path) -> Iterator[str]:
    if not groups:
        return
    yield f"<h2>{title}: {len(groups):,}</h2>"
    for group in groups[:_MOST]:
        yield "<div class=group>"
        for name, caption in group:
            picture = _thumbnail(folder / name)
            yield f"<figure title='{html.escape(show(name))}'>{picture}"
            yield f"<figcaption>{html.escape(show(caption))}</figcaption></figure>"
        yield "</div>"
    if len(groups) > _MOST:
        yield f"<p>and {len(groups) - _MOST:,} more"


def _thumbnail(path: Path) -> str:
    try:
        image = Image.fromarray(read_image(path))
    except UserError:
        return "unreadable"
    image.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return f"<img src='data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}'>"
