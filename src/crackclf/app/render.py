"""Answers as HTML."""

import html
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from crackclf.app.answers import Answer

_LISTED = 10  # Cracks of a photo; the report has all.
_PROBABILITY = "Proba&shy;bility"  # A narrow screen has no room for it in one line.
_COLUMNS = ("Picture", "Verdict", _PROBABILITY, "Cracks", "Length, {}", "Widest, {}")
_CRACK_COLUMNS = ("No.", "Close up", "Length, {}", "Mean width, {}", "Widest, {}", _PROBABILITY)


def render_progress(name: str, done: int, count: int) -> str:
    """Which picture is being looked at, of how many.

    Args:
        name: of the picture.
        done: number of pictures before it.
        count: of all pictures.
    """
    bar = f'<progress aria-label="Pictures answered" value="{done}" max="{count}"></progress>'
    return f"Picture {done + 1} of {count}: {html.escape(name)} {bar}"


def render_summary(answers: Sequence[Answer]) -> str:
    """What was found in short: of several pictures as a table.

    Args:
        answers: at least one, in the order of the table.
    """
    if len(answers) == 1:
        return f"<h2>{html.escape(answers[0].name)}</h2>{_verdict(answers[0])}"
    cracked, unknown = sum(x.is_cracked for x in answers), sum(bool(x.problem) for x in answers)
    text = f"{len(answers)} pictures: {cracked} cracked, {len(answers) - cracked - unknown} not"
    text += f", {unknown} without an answer" if unknown else ""
    return f"<h2>{text}</h2>{_overview(answers)}"


def render_details(answers: Sequence[Answer]) -> str:
    """Each picture that has an answer, with its cracks.

    Args:
        answers: as for the summary, whose table leads here.
    """
    if len(answers) == 1:
        return _picture(answers[0])
    return "".join(
        f'<section id="picture-{number}"><h3>{html.escape(x.name)}</h3>{_verdict(x)}{_picture(x)}'
        "</section>"
        for number, x in enumerate(answers, 1)
        if not x.problem
    )


def _overview(answers: Sequence[Answer]) -> str:
    unit, rows = _unit(answers), ""
    for number, answer in enumerate(answers, 1):
        name = html.escape(answer.name)
        if answer.problem:
            what = f'<td colspan="{len(_COLUMNS) - 1}">{html.escape(answer.problem)}</td>'
            rows += f'<tr><th scope="row">{name}</th>{what}</tr>'
            continue
        row, verdict = answer.row, html.escape(_title(answer.row["verdict"]))
        cells = (
            f"<strong>{verdict}</strong>" if answer.is_cracked else verdict,
            f"{row['probability']:.3f}",
            str(row.get("cracks", "")),
            _size(row.get(f"length_{unit}"), 0),
            _size(row.get(f"max_width_{unit}"), 1),
        )
        link = f'<a href="#picture-{number}">{name}</a>'
        rows += f'<tr><th scope="row">{link}</th>{_cells(cells)}</tr>'
    return f'<table class="overview">{_head(_COLUMNS, unit)}{rows}</table>'


def _verdict(answer: Answer) -> str:
    if answer.problem:
        problem = html.escape(answer.problem)
        return f'<div class="verdict"><strong>No answer</strong>{problem}</div>'
    kind, verdict = "cracked" if answer.is_cracked else "sound", _title(answer.row["verdict"])
    facts = "".join(
        f'<tr><th scope="row">{key}</th><td>{html.escape(value)}</td></tr>'
        for key, value in answer.facts.items()
    )
    return (
        f'<div class="verdict {kind}"><strong>{html.escape(verdict)}</strong></div>'
        f'<table class="facts">{facts}</table>'
    )


def _picture(answer: Answer) -> str:
    if answer.problem:
        return ""
    # One file that holds two pictures: each half is shown by itself, so that they stand side by
    # side where there is room and one below the other where there is not.
    place, name = f"gradio_api/file={quote(str(answer.picture))}", html.escape(answer.name)
    halves = f'<img src="{place}" alt="{name}"><img src="{place}" alt="{name} {answer.found}">'
    return (
        f'<a class="map" href="{place}" target="_blank" style="--ratio: {answer.ratio:.4f}">'
        f"{halves}</a><p>{answer.notes}</p>{_tabulate(answer)}"
    )


def _tabulate(answer: Answer) -> str:
    """The longest cracks as a table, close up; they are numbered as in the picture."""
    if not answer.cracks:
        return ""
    unit, rows = _unit([answer]), ""
    listed = zip(answer.cracks[:_LISTED], answer.crops, strict=False)
    for number, (crack, crop) in enumerate(listed, 1):
        cells = (
            str(number),
            f'<img src="{crop}" alt="crack {number}, close up">',
            _size(crack[f"length_{unit}"], 0),
            _size(crack[f"mean_width_{unit}"], 1),
            _size(crack[f"max_width_{unit}"], 1),
            f"{crack['probability']:.3f}",
        )
        rows += f"<tr>{_cells(cells)}</tr>"
    more = len(answer.cracks) - _LISTED
    note = f"<p>The report has {more} more, which are shorter.</p>" if more > 0 else ""
    return f'<table class="cracks">{_head(_CRACK_COLUMNS, unit)}{rows}</table>{note}'


def _head(titles: Iterable[str], unit: str) -> str:
    cells = "".join(f'<th scope="col">{title.format(unit)}</th>' for title in titles)
    return f"<tr>{cells}</tr>"


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _title(verdict: str) -> str:
    return verdict.replace("_", " ").capitalize()


def _unit(answers: Iterable[Answer]) -> str:
    """That of the sizes; the scale is the same for all pictures."""
    return "mm" if any(x.row.get("length_mm") is not None for x in answers) else "px"


def _size(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
