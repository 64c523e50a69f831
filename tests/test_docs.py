"""What the README and the site say is so: commands, names, files, links, and what is printed."""

import ast
import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer

import crackclf
from conftest import run
from crackclf.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Ways of writing that stand for a command rather than being one.
PLACEHOLDERS = {"COMMAND", "..."}


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of these languages, `""` for none."""
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def command_lines(page: Path) -> list[list[str]]:
    """The arguments of each `crackclf ...` in the blocks of a page."""
    lines = "".join(blocks(page, "", "console")).splitlines()
    found = [line.removeprefix("$ ") for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in found if line.startswith("crackclf ")]


def inline_commands(page: Path) -> list[list[str]]:
    """The words after `crackclf` of each code span in the text of a page."""
    spans = re.findall(r"`crackclf ([^`]+)`", FENCE.sub("", page.read_text()))
    return [span.split() for span in spans]


def public_names(module: str) -> set[str]:
    """What a module defines, read rather than imported: Ray and Gradio take long."""
    tree = ast.parse((ROOT / "src" / module.replace(".", "/")).with_suffix(".py").read_text())
    defined = [x.name for x in tree.body if isinstance(x, ast.FunctionDef | ast.ClassDef)]
    assigned = [ast.unparse(x.targets[0]) for x in tree.body if isinstance(x, ast.Assign)]
    return {name for name in [*defined, *assigned] if not name.startswith("_")}


def mask(text: str) -> list[str]:
    """Lines without their numbers, which change with the model in the box and the processor."""
    return [re.sub(r"\d[\d.,]*", "#", line).rstrip() for line in text.splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return folder


def test_the_site_has_every_page_and_notebook_and_loads_nothing_from_elsewhere(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / page.name).with_suffix(".html").is_file()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert (site / "notebooks" / notebook.name).is_file()
    loaded = re.compile(r'<(?:script|img|iframe)[^>]+src="http|<link[^>]+stylesheet[^>]+http')
    for page in site.glob("*.html"):
        assert not loaded.search(page.read_text()), page.name


def test_the_reference_has_every_public_name_once():
    documented = re.findall(r"^::: crackclf\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.M)
    assert sorted(documented) == sorted(crackclf.__all__)


def test_the_readme_is_short():
    assert len(README.read_text()) <= 7_000


@pytest.mark.parametrize("page", PAGES, ids=lambda x: x.name)
def test_every_link_and_every_file_that_a_page_names_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if page.parent == ROOT:  # The site's own are checked when it is built.
            assert target.startswith("https://") or (ROOT / target).exists(), target
    named = r"\b(?:src|tests|recipes|benchmarks|notebooks)/[\w/.-]+\.(?:py|ipynb|json|md)\b"
    for path in re.findall(named, page.read_text()):
        assert (ROOT / path).is_file() or "NAME" in path, path


@pytest.mark.parametrize("page", PAGES, ids=lambda x: x.name)
def test_every_command_line_is_one_that_the_program_takes(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, *arguments in command_lines(page):
        for folder in [x for x in arguments if "/" in x and not Path(x).suffix]:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)  # Some must be there.
        COMMANDS[name].make_context(name, arguments)
    for name, *words in inline_commands(page):
        if name in PLACEHOLDERS or name.startswith("--"):
            continue
        known = {option for x in COMMANDS[name].params for option in x.opts + x.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda x: x.name)
def test_every_name_in_an_example_exists(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "crackclf":
                assert node.attr in crackclf.__all__
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("crackclf."):
                assert {alias.name for alias in node.names} <= public_names(str(node.module))


def test_the_readmes_example_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,), (printed,) = blocks(README, "python"), blocks(README, "text")
    with redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "README.md", "exec"), {})
    assert mask(out.getvalue()) == mask(printed)
    assert (tmp_path / "cracks.jpg").is_file()


def test_the_readmes_commands_print_what_they_say(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (session,) = blocks(README, "console")
    for part in session.removeprefix("$ ").split("\n$ "):
        line, printed = part.split("\n", 1)
        # A larger sample holds the smaller one, and no more than its first images are asked for.
        arguments = shlex.split(line.replace("--count 400", "--count 8"))[1:]
        if arguments[0] not in ("audit", "train"):  # They take too long here.
            assert run(monkeypatch, *arguments) == 0
            assert mask(capfd.readouterr().out) == mask(printed)
