"""What the site adds to the Markdown files of the repository while it is built.

A page may hold one of these lines:

    <!-- page: ../README.md -->                 the file, with its links as they are right on this page
    <!-- guides -->                             the side bar's groups: the table `Guides` of the README
    <!-- names: instar.losses instar.data -->   the public names of these modules, described
    <!-- all names -->                          a table of all public names
    <!-- run -->                                the page's blocks of Python are run, and what they print is shown

Links that lead out of docs/: a file is put beside the pages, a folder becomes its name.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from pygments.formatters import HtmlFormatter
from sphinx.errors import ExtensionError
from sphinx.highlighting import PygmentsBridge
from sphinx.util import logging

import instar

DOCS = Path(__file__).parent
ROOT = DOCS.parent
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
RUN = "<!-- run -->\n"
CARD = re.compile(r"\[([^\]]+)\]\(docs/((?:methods|tutorials)/[^)]+)\)")
BLOCK = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
PAGES: dict[Path, str] = {
    ROOT / "README.md": "index.md",
    ROOT / "CONTRIBUTING.md": "contributing.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "AGENTS.md": "agents.md",
    DOCS / "methods": "index.md",
    DOCS / "tutorials": "index.md",
    DOCS / "decisions": "decisions/index.md",
}
"""The pages of files outside docs/, and of folders."""

OPTION = re.compile(r"(?<=[\s>])--?[a-z][\w-]*")
"""An option of a command, which is not broken after its dashes."""

_log = logging.getLogger(__name__)
_runner = ThreadPoolExecutor(1)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx, to which this module is an extension."""
    PygmentsBridge.html_formatter = _Lines
    app.connect("builder-inited", _start_tutorials)
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _plain, priority=0)  # before napoleon
    app.connect("env-check-consistency", _check_names)
    return {"parallel_read_safe": True}


class _Lines(HtmlFormatter[str]):
    """Each line of a listing in an element of its own: a narrow screen breaks it and indents the rest."""

    def wrap(self, source: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """What the listing is put into."""
        return super().wrap(map(_line, source))


def _line(line: tuple[int, str]) -> tuple[int, str]:
    is_code, html = line
    text = OPTION.sub(r'<span class="option">\g<0></span>', html.rstrip("\n"))
    return is_code, f'<span class="line">{text}</span><span class="newline">\n</span>' if is_code else html


def guides(readme: str) -> dict[str, dict[str, str]]:
    """The cards by group: for each bold word of the README's table `Guides` the paths of its cards, with titles.

    Raises:
        ValueError: a card of docs/methods or a tutorial is in no group, or in two.
    """
    table = readme.split("## Guides\n", 1)[1].split("\n## ", 1)[0]
    groups = {
        row[1]: {
            path: title
            for title, path in re.findall(r"\[([^\]]+)\]\(docs/((?:methods|tutorials)/[^)]+)\)", row[0])
        }
        for row in re.finditer(r"^\| \*\*([^*]+)\*\*.*$", table, re.MULTILINE)
    }
    listed = [path for cards in groups.values() for path in cards]
    for card in sorted([*(DOCS / "methods").glob("*.md"), *(DOCS / "tutorials").glob("*.md")]):
        path = card.relative_to(DOCS).as_posix()
        if (count := listed.count(path)) != 1:
            raise ValueError(f"docs/{path} is in {count} groups of the table `Guides` in README.md; link it once")
    return groups


def names_of(modules: list[str]) -> tuple[list[str], list[str]]:
    """The names of `import instar` that are at home in these modules, and what else the modules offer."""
    first = [name for name in instar.__all__ if instar._HOMES[name] in modules]
    others = [
        f"{module}.{name}"
        for module in modules
        for name in _offered(import_module(module))
        if name not in instar.__all__
    ]
    return [f"instar.{name}" for name in first], others


def _offered(module: ModuleType) -> list[str]:
    """`__all__` of a package; of a module without public names in `instar` all that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    if module.__name__ in instar._HOMES.values():
        return []
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _read(app: Any, name: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    text = content[0]
    if found := re.search(r"<!-- page: (\S+) -->\n", text):
        file = (page.parent / found[1]).resolve()
        text = text.replace(found[0], _with_links(file.read_text(encoding="utf-8"), file.parent, page.parent))
    else:
        text = _with_links(text, page.parent, page.parent)
    if "<!-- guides -->" in text:
        try:
            groups = guides((ROOT / "README.md").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ExtensionError(str(error)) from None
        text = text.replace("<!-- guides -->\n", "\n".join(_toctrees(groups)))
    if RUN in text:
        text = _with_outputs(text.replace(RUN, ""), name)
    if found := re.search(r"<!-- names: (.*) -->\n", text):
        text = text.replace(found[0], "\n".join(_described(found[1].split())))
    text = text.replace("<!-- all names -->\n", "\n".join(_table()))
    content[0] = re.sub(r"^\|.*", lambda row: _unbroken(row[0]), text, flags=re.MULTILINE)


def _with_links(text: str, home: Path, page: Path) -> str:
    """A text of a file in folder `home` with links that are right in folder `page`."""

    def link(found: re.Match[str]) -> str:
        target = (home / found[2]).resolve()
        if target.is_dir() and target not in PAGES:
            return found[1]
        return f"[{found[1]}]({os.path.relpath(DOCS / PAGES.get(target, target), page)}{found[3] or ''})"

    return LINK.sub(link, text)


def _start_tutorials(app: Any) -> None:
    """Run them beside the building of the other pages, which takes one core."""
    for page in sorted((DOCS / "tutorials").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if RUN in text:
            _run(tuple(BLOCK.findall(text)))


@cache
def _run(blocks: tuple[str, ...]) -> Future[subprocess.CompletedProcess[str]]:
    """What blocks of Python print, in one process, in an empty folder."""

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", DOCS / "run_blocks.py"]
        options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True}
        with TemporaryDirectory() as folder:
            return subprocess.run(command, input=json.dumps(blocks), cwd=folder, **options)

    return _runner.submit(run)


def _with_outputs(text: str, name: str) -> str:
    """A page with what its blocks of Python print below them."""
    done = _run(tuple(BLOCK.findall(text))).result()
    if done.returncode:
        _log.warning("docs/%s.md fails where it is run:\n%s", name, done.stderr)
        return text
    printed = iter(json.loads(done.stdout))
    return BLOCK.sub(lambda block: block[0] + (f"```text\n{said}```\n" if (said := next(printed)) else ""), text)


def _unbroken(row: str) -> str:
    """A row of a table in which `1.2 ± 0.3` and `[0.9, 1.5]` stay on one line."""
    return re.sub(
        r"(?<=\d) ± (?=\d)|(?<=\d), (?=[\u2212+-]?[\d.]+\])", lambda gap: gap[0].replace(" ", "\u00a0"), row
    )


def _toctrees(groups: dict[str, dict[str, str]]) -> Iterator[str]:
    for group, cards in groups.items():
        yield f"```{{toctree}}\n:hidden:\n:caption: {group}\n"
        yield from (f"{title[0].upper()}{title[1:]} <{path}>" for path, title in cards.items())
        yield "```\n"


def _described(modules: list[str]) -> Iterator[str]:
    first, others = names_of(modules)
    yield from (_directive(name) for name in first)
    if others:
        yield "\n## More names\n"
        yield from (_directive(name) for name in others)


def _directive(name: str) -> str:
    value = _value(name)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    else:
        kind = "autofunction" if inspect.isroutine(value) else "py:data"
    return f"```{{eval-rst}}\n.. {kind}:: {name}\n{'   :members:' * inspect.isclass(value)}\n```\n"


def _value(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


def _table() -> Iterator[str]:
    yield "| name | what it is |\n| --- | --- |"
    for name in instar.__all__:
        first = inspect.getdoc(_value(f"instar.{name}")).splitlines()[0]
        yield f"| {{py:obj}}`~instar.{name}` | {first.replace('|', chr(92) + '|')} |"


def _plain(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with names in backticks: nothing else in them is markup; equations are blocks."""
    if re.fullmatch(r"Alias for field number \d+", "".join(lines)):
        lines.clear()  # what Python says of a field of a named tuple
    paragraphs = [part.split("\n") for part in "\n".join(lines).split("\n\n")]
    lines[:] = [line for paragraph in paragraphs for line in (*_as_markup(paragraph), "")]
    if what in ("attribute", "property"):
        lines.insert(0, "\\")  # an empty line: napoleon would take what stands before a colon for a type


def _as_markup(paragraph: list[str]) -> list[str]:
    text = "\n".join(paragraph)
    if ">>>" in text:
        return paragraph
    is_prose = re.match(r"\s|\w+:\n", text) or text.endswith((".", ":"))
    if not is_prose and re.search(" (=|argmin) ", re.sub(r"`[^`]*`", "", text)):
        return [".. code-block:: none", "", *(f"   {line}" for line in paragraph)]
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"[*|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts).split("\n")


def _check_names(app: Any, env: Any) -> None:
    """Every public name has its place on a page."""
    described = env.get_domain("py").objects
    for name in instar.__all__:
        if f"instar.{name}" not in described:
            _log.warning(
                "instar.%s (%s) is on no page: add its module to one in docs/api", name, instar._HOMES[name]
            )
