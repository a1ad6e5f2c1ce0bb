"""Documents of running text: files, folders and patterns, each text once, split by file or by document."""

import ast
import functools
import glob
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from instar.data.records.files import part_of_file
from instar.data.sources import cache_folder
from instar.data.splits import stratified_split
from instar.errors import DataError, UsageError
from instar.files import written_whole
from instar.naming import TEXT_FILES

MODULES = "docs-of:"
SUFFIXES = (".txt", ".md", ".rst")
"""Files that are read in a folder; a pattern or a name takes any."""

LARGEST_BYTES = 2**30
"""A file is read whole, so a larger one is refused."""

_TEST_FRACTION = 0.2
_TEST_SEED = 0  # fixed: the test documents are the same for everybody, whatever split_seed is
_FEWEST = 3  # files: one for each part
_SHORTEST = 200  # characters: shorter docstrings say little


class Document(NamedTuple):
    """A text and the file that it is from."""

    text: str
    file: str


@dataclass(frozen=True)
class Corpus:
    """The documents of a source, and the part that each belongs to; texts are read when they are asked for."""

    source: str
    files: tuple[Path | str, ...]
    """those of modules are named by their module"""
    separator: str | None
    parts: dict[str, frozenset[bytes]]
    """by part, the hashes of its documents"""
    notes: tuple[str, ...]
    """what was left out, and how it was split, a sentence each"""

    def documents(self, part: str) -> Iterator[Document]:
        """The documents of a part, each once, in the order of the files."""
        left = set(self.parts[part])
        for document in _documents(self.files, self.separator, []):
            if (key := _hash(document.text)) in left:
                left.remove(key)
                yield document


def read_corpus(
    name: str,
    *,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    by: str = "file",
    separator: str | None = None,
) -> Corpus:
    """The documents that a name means, deduplicated and split.

    Where the names of all files tell their parts (`train`, `test`, perhaps `validation`), these are the parts.

    Args:
        name: `text:` and files, folders (`.txt`, `.md`, `.rst` below them) or patterns with `*`, with commas
            between them; or `docs-of:MODULE`, the docstrings of an installed module, a document for each file.
        validation_fraction: share of the training files that becomes validation data.
        split_seed: chooses these.
        by: what is split, `file` (all documents of a file are in one part) or `document`.
        separator: a text that stands between the documents of a file; without one a file is a document.

    Raises:
        UsageError: there is no such file or module, or an unknown way to split.
        DataError: a file is too large, or there are fewer than three files (or documents) with a text.
    """
    if by not in ("file", "document"):
        raise UsageError(f"split_by is {by!r}, expected file or document")
    if separator == "":
        raise UsageError("separator is empty, expected a text that stands between documents")
    notes: list[str] = []
    files = _files(name.removeprefix(f"{TEXT_FILES}:"))
    told = _told_parts(files)
    units: dict[tuple[str, str], list[bytes]] = {}
    seen: set[bytes] = set()
    num_copies = 0
    for document in _documents(files, separator, notes):
        key = _hash(document.text)
        if key in seen:
            num_copies += 1
            continue
        seen.add(key)
        unit = document.file if by == "file" else key.hex()
        units.setdefault((told.get(document.file, ""), unit), []).append(key)
    groups: dict[str, list[list[bytes]]] = {}
    for (part, _), keys in units.items():
        groups.setdefault(part, []).append(keys)
    parts = _split(name, by, groups, validation_fraction, split_seed)
    if num_copies:
        notes.append(f"{num_copies:,} documents are copies of others and are left out")
    counts = ", ".join(f"{len(keys):,} {part}" for part, keys in parts.items())
    how = "as their files are named" if told else f"by {by}"
    notes.append(f"{len(seen):,} documents, split {how}: {counts}")
    return Corpus(name, files, separator, parts, tuple(notes))


def _told_parts(files: Sequence[Path | str]) -> dict[str, str]:
    """The part that the name of each file tells; none where one tells nothing, or no test file is there."""
    paths = [file for file in files if isinstance(file, Path)]
    told = {str(file): part_of_file(file, file.parent.parent) or "" for file in paths}
    is_told = len(paths) == len(files) and all(told.values()) and {"train", "test"} <= set(told.values())
    return told if is_told else {}


def _split(
    name: str, by: str, groups: dict[str, list[list[bytes]]], validation_fraction: float, split_seed: int
) -> dict[str, frozenset[bytes]]:
    """The hashes by part; what is split is chosen by its content, whatever its name and place."""
    train, validation, test = (groups.get(part, []) for part in ("train", "validation", "test"))
    if "" in groups:
        train, test = _cut(name, by, groups[""], _TEST_FRACTION, _TEST_SEED, least=_FEWEST)
    if not validation:
        train, validation = _cut(name, by, train, validation_fraction, split_seed, least=2)
    parts = {"train": train, "validation": validation, "test": test}
    found = {part: frozenset(key for keys in units for key in keys) for part, units in parts.items()}
    if empty := [part for part, keys in found.items() if not keys]:
        raise DataError(f"{name}: the {empty[0]} part has no document that is not in another one too")
    return found


def _cut(
    name: str, by: str, units: list[list[bytes]], fraction: float, seed: int, *, least: int
) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """Those that stay, and a share that is chosen by hashes of the content."""
    if len(units) < least:
        hint = "; --split-by document splits within files, --separator says where" if by == "file" else ""
        raise DataError(f"{name}: {len(units)} {by}s with a text of their own, expected at least {least}{hint}")
    digests = (hashlib.blake2b(b"".join(keys), digest_size=8).digest() for keys in units)
    ids = torch.tensor([int.from_bytes(one, "little", signed=True) for one in digests])
    rest, chosen = stratified_split(ids, torch.zeros_like(ids), fraction=fraction, split_seed=seed)
    unit_of = dict(zip(ids.tolist(), units, strict=True))
    return [unit_of[one] for one in rest.tolist()], [unit_of[one] for one in chosen.tolist()]


def _files(place: str) -> tuple[Path | str, ...]:
    """The files of all entries, each once, in the order of their names; after them the modules."""
    found: set[Path] = set()
    modules: dict[str, None] = {}
    for entry in place.split(","):
        if entry.startswith(MODULES):
            modules[entry] = None
            continue
        path = Path(entry).expanduser()
        if path.is_dir():
            files = [one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file()]
        else:
            files = [Path(one) for one in glob.glob(str(path), recursive=True) if Path(one).is_file()]
        if not files:
            kinds = f" ({', '.join(SUFFIXES)})" if path.is_dir() else ""
            raise UsageError(
                f"{TEXT_FILES}:{entry}: no such file{kinds}; expected a file, a folder or a pattern with *"
            )
        found |= set(files)
    return (*sorted(found), *modules)


def _documents(files: Sequence[Path | str], separator: str | None, notes: list[str]) -> Iterator[Document]:
    """All documents that have a text; what was left out goes into the notes."""
    unreadable: list[Path] = []
    for file in files:
        if isinstance(file, str):
            yield from (Document(text, name) for name, text in _docstrings_of(file).items())
            continue
        if file.stat().st_size > LARGEST_BYTES:
            raise DataError(
                f"{file} has {file.stat().st_size / 2**30:.1f} GiB, and a file is read whole: split it"
            )
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            unreadable.append(file)
            continue
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from None
        pieces = [text] if separator is None else text.split(separator)
        yield from (Document(piece, str(file)) for piece in pieces if piece.strip())
    if unreadable:
        notes.append(f"{len(unreadable):,} files are not UTF-8 and are left out, the first {unreadable[0]}")


@functools.lru_cache(maxsize=16)
def _docstrings_of(entry: str) -> dict[str, str]:
    """The docstrings of a module by file, from the cache where they are: to find them takes a minute or so."""
    module = entry.removeprefix(MODULES)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{TEXT_FILES}:{entry}: there is no such package on this machine")
    root = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(file for file in root.rglob("*.py") if "tests" not in file.parts)
    about = [(str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.blake2b(json.dumps([module, about]).encode(), digest_size=16).hexdigest()
    try:
        copy = cache_folder() / "docstrings" / f"{digest}.json"
        if copy.is_file():
            return dict(json.loads(copy.read_text()))
    except (OSError, ValueError, UsageError):  # damaged, or there is no home directory
        copy = None
    found = {f"{module}/{file.relative_to(root)}": _docstrings(file) for file in files}
    found = {name: text for name, text in found.items() if text}
    if copy is not None:
        with suppress(OSError), written_whole(copy) as part:
            part.write_text(json.dumps(found))
    return found


def _docstrings(file: Path) -> str:
    """The docstrings of a file that are longer than a line or two, in their order."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return ""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(dict.fromkeys(one for one in found if one and len(one) >= _SHORTEST))


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=16).digest()
