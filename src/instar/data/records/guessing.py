"""Roles of columns that nobody named: guessed where there is one choice, and said."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from instar.data.readers.audio import SOUND_SUFFIXES
from instar.data.readers.images import IMAGE_SUFFIXES
from instar.data.records.cells import are_numbers, check_numbers
from instar.data.records.labels import is_list
from instar.data.records.parting import part_named
from instar.data.records.places import columns_of_user, type_in_words
from instar.data.records.roles import Roles
from instar.data.records.tags import are_words
from instar.errors import UsageError
from instar.naming import few, listed, unknown_name

_LABELS = ("label", "labels", "class", "target", "y", "category", "intent", "cls")
_TEXTS = ("text", "sentence", "utterance", "question", "review", "content", "txt", "message")
_WORDS, _TAGS = ("words", "tokens", "form"), ("tags", "ner_tags", "labels", "label", "pos_tags", "upos")
_PARTS = ("split", "part", "subset")
_NUMBERS_OF_ROWS = ("id", "idx", "index", "rownames", "unnamed: 0", "")
_LOOKED_AT = 10_000  # rows
_SHOWN = 20  # columns of a message
_SENTENCE = 2  # words in lower case; rows of names (`Braund, Mr. Owen`) and of numbers (`A/5 21171`) have fewer
_WORD = r"(?:^|\s)\p{Ll}|\p{Lo}"  # begins in lower case; each letter where a script has no case, or no spaces
_NEARLY = 0.9  # of the rows


def found_roles(table: pa.Table, roles: Roles, source: str) -> tuple[Roles, tuple[str, ...]]:
    """The roles with those that had to be guessed, and what was guessed, a sentence each.

    Raises:
        UsageError: a column that is not there, or a choice that has to be made.
        DataError: a column of numbers that are no numbers; names the row.

    Example:
        >>> roles, said = found_roles(pa.table({"text": ["a", "b"], "label": [0, 1]}), Roles(), "mine")
        >>> roles.label, roles.text, said
        ('label', ('text',), ("the class is column 'label'", "the text is column 'text'"))
    """
    there = columns_of_user(table)
    roles = dataclasses.replace(
        roles, text=_separate(roles.text, there), features=_separate(roles.features, there)
    )
    for column in roles.columns:
        if column not in there:
            raise UsageError(f"{source}: {unknown_name('column', column, there)}")
    said: list[str] = []
    roles = _of_words(table, roles, said)
    named = {name.lower(): name for name in there if name not in roles.columns}
    if roles.label is None:
        choices = [named[word] for word in _LABELS if word in named]
        choices = [name for name in choices if name.lower() != "y"] or choices  # a coordinate, beside a class
        if len(choices) != 1:
            raise UsageError(f"{source}: which column is the class? --label COLUMN; {_possible_classes(table)}")
        roles = dataclasses.replace(roles, label=choices[0])
        said.append(f"the class is column {choices[0]!r}")
    if roles.part is None:
        choices = [named[word] for word in _PARTS if word in named and _are_parts(table[named[word]])]
        if len(choices) == 1:
            roles = dataclasses.replace(roles, part=choices[0])
            said.append(f"the part of a row is column {choices[0]!r}")
    if not roles.inputs:
        roles, what = _inputs(table, roles, source)
        said.append(what)
    return roles, tuple(said)


def _of_words(table: pa.Table, roles: Roles, said: list[str]) -> Roles:
    """With the columns of words and of their tags, where there are such and they are not named."""
    kinds = {name.lower(): (name, table[name].type) for name in columns_of_user(table)}
    words = [name for word in _WORDS for name, kind in [kinds.get(word, ("", pa.null()))] if are_words(kind)]
    tags = [name for word in _TAGS for name, kind in [kinds.get(word, ("", pa.null()))] if is_list(kind)]
    if not roles.inputs and words and (tags or roles.label):
        roles = dataclasses.replace(roles, text=(words[0],))
        said.append(f"the words are column {words[0]!r}")
    if roles.label is None and tags and roles.text and are_words(table[roles.text[0]].type):
        roles = dataclasses.replace(roles, label=tags[0])
        said.append(f"the classes of the words are column {tags[0]!r}")
    return roles


def _inputs(table: pa.Table, roles: Roles, source: str) -> tuple[Roles, str]:
    free = [name for name in columns_of_user(table) if name not in roles.columns and not name.startswith("__")]
    empty = [name for name in free if table[name].null_count == len(table)]
    free = [name for name in free if name not in empty]
    kinds = {name: _kind(table, name) for name in free}
    check_numbers(table, [name for name in free if kinds[name] == "text" and name.lower() not in _TEXTS])
    by_kind: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    for role in ("image", "audio"):
        if len(by_kind.get(role, [])) == 1:
            column = by_kind[role][0]
            return _with(roles, role, column), f"the {role} is column {column!r}"
    texts = [name for name in by_kind.get("text", []) if name.lower() in _TEXTS] or by_kind.get("text", [])
    if len(texts) == 1 and (texts[0].lower() in _TEXTS or set(kinds.values()) == {"text"}):
        return dataclasses.replace(roles, text=(texts[0],)), f"the text is column {texts[0]!r}"
    names = [name for name in by_kind.get("text", []) if not _are_sentences(table[name])]
    features = [name for name in free if kinds[name] in ("number", "category") and not _counts_rows(table, name)]
    in_the_way = [name for name in free if kinds[name] not in ("number", "category") and name not in names]
    if features and not in_the_way:
        counting = [name for name in free if name not in (*features, *names)]
        but = _left_out(table, counting, empty, names)
        what = f"the features are all {len(features)} other columns{but}"
        return dataclasses.replace(roles, features=tuple(features)), what
    options = "--text, --image, --audio or --features" + (f" without {few(in_the_way)}" if features else "")
    raise UsageError(f"{source}: which columns are the input? {options}; {_columns(table)}")


def _left_out(table: pa.Table, counting: Sequence[str], empty: Sequence[str], names: Sequence[str]) -> str:
    """Which columns are no features, and why."""
    rows = table.slice(0, _LOOKED_AT)
    nearly = all(pc.count_distinct(rows[name]).as_py() > _NEARLY * len(rows) for name in names)
    different = f"a different text in {'nearly every row' if nearly else 'most rows'}"
    but = [
        f" without {listed(list(map(repr, columns)))}, which {is_ if len(columns) == 1 else are}"
        for columns, is_, are in (
            (counting, "counts the rows", "count the rows"),
            (empty, "is empty", "are empty"),
            (names, f"has {different}", f"have {different}"),
        )
        if columns
    ]
    if names:
        it = "it" if len(names) == 1 else repr(names[0])
        but[-1] += f"; --key {names[0]} or --group {names[0]} uses {it}"
    return ",".join(but)


def _are_sentences(column: pa.ChunkedArray) -> bool:
    """Whether texts are to be read; names and numbers of rows are not."""
    words = pc.mean(pc.count_substring_regex(column.slice(0, _LOOKED_AT), _WORD)).as_py()
    return words is not None and words > _SENTENCE


def _separate(names: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, of which `a,b` are two where no column is called so: as the command line has them."""
    return tuple(one for name in names for one in ([name] if name in there else map(str.strip, name.split(","))))


def _with(roles: Roles, role: str, column: str) -> Roles:
    changed: Mapping[str, Any] = {role: column}
    return dataclasses.replace(roles, **changed)


def _kind(table: pa.Table, name: str) -> str:
    """What a column may be: `image`, `audio`, `text`, `category`, `number` or `other`."""
    kind = table.schema.field(name).type
    if pa.types.is_struct(kind) and {field.name for field in kind} >= {"bytes", "path"}:
        return "audio" if _starts_as_sound(table[name]) else "image"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "audio" if _starts_as_sound(table[name]) else "image"
    if pa.types.is_dictionary(kind) or pa.types.is_boolean(kind):
        return "category"
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number or pa.types.is_temporal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        some = table[name].slice(0, _LOOKED_AT)
        if role := _names_files(some):
            return role
        if name.lower() not in _TEXTS and are_numbers(some) and are_numbers(table[name]):
            return "number"
        repeat = pc.count_distinct(some).as_py() <= max(2, len(some) // 2)
        return "category" if repeat and name.lower() not in _TEXTS else "text"
    return "other"


def _starts_as_sound(column: pa.ChunkedArray) -> bool:
    first = next((one.as_py() for one in column.slice(0, 10) if one.is_valid), None)
    content = first.get("bytes") if isinstance(first, dict) else first
    path = str(first.get("path") or "") if isinstance(first, dict) else ""
    sounds = (b"RIFF", b"fLaC", b"OggS", b"ID3")
    return Path(path).suffix.lower() in SOUND_SUFFIXES or bool(
        content and content[:4].startswith(sounds) and content[8:12] != b"WEBP"
    )


def _names_files(column: pa.ChunkedArray) -> str | None:
    """`image` or `audio`, where all texts are names of such files: the words of paths are no texts."""
    suffixes = {Path(text).suffix.lower() for text in pc.unique(column).to_pylist() if text}
    if suffixes and suffixes <= IMAGE_SUFFIXES:
        return "image"
    return "audio" if suffixes and suffixes <= SOUND_SUFFIXES else None


def _are_parts(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)):
        return False
    words = pc.unique(column.cast(pa.string())).to_pylist()
    return len(words) > 1 and all(word is not None and part_named(word) for word in words)


def _counts_rows(table: pa.Table, name: str) -> bool:
    """Whether a column only numbers the rows: it would tell nothing of a new one."""
    is_whole = pa.types.is_integer(table.schema.field(name).type)
    *_, last = re.split(r"[\s_.-]+", name.lower())  # "patient id", "order_id"
    named = name.lower() in _NUMBERS_OF_ROWS or last == "id"
    return named and is_whole and pc.count_distinct(table[name]).as_py() == len(table)


def _columns(table: pa.Table) -> str:
    """The columns as a message lists them."""
    shown = [f"{name} ({type_in_words(table[name].type)})" for name in columns_of_user(table)]
    return f"the columns are {', '.join(shown[:_SHOWN])}{', ...' * (len(shown) > _SHOWN)}"


def _possible_classes(table: pa.Table) -> str:
    """The columns as a message lists them, those first that may be the class: texts before whole numbers."""
    rows, different = table.slice(0, _LOOKED_AT), {}
    kinds = {name: type_in_words(table[name].type) for name in columns_of_user(table)}
    for name, kind in kinds.items():
        if kind in ("text", "category", "yes or no", "whole number"):
            number = pc.count_distinct(rows[name].cast(pa.string())).as_py()
            if 2 <= number <= max(2, len(rows) // 2):
                different[name] = number
    first = sorted(different, key=lambda name: (kinds[name] == "whole number", different[name]))
    said = [f"{name} ({kinds[name]}, {different[name]:,} values)" for name in first]
    said += [f"{name} ({kind})" for name, kind in kinds.items() if name not in different]
    return f"the columns are {', '.join(said[:_SHOWN])}{', ...' * (len(said) > _SHOWN)}"
