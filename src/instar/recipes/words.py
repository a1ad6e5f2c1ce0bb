"""The words of the glossary that stand on a page, with their meaning: a page is read without a network too."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from instar.documentation import address, card_of, glossary_text
from instar.reports import Section
from instar.reports.sections import Details, Text

SOURCES = "[H] Hinton, Vinyals and Dean 2015; [Y] Yosinski, Clune, Bengio and Lipson 2014."


def words_section(sections: Sequence[Section]) -> list[Section]:
    """A folded section with the words of these sections; none where they have none.

    Example:
        >>> (section,) = words_section([Text("A student, undecided.")])
        >>> [text.split(":")[0] for text in section.sections[0].paragraphs[:-1]]
        ['student', 'undecided']
    """
    said = " ".join(_texts(sections))
    found = [line for pattern, line in _glossary() if pattern.search(said)]
    return [Details("Words on this page", [Text([*found, SOURCES])])] if found else []


def where_to_read(module: str) -> str:
    """The last line of a page: what explains the experiment, and how a page is read.

    Args:
        module: where the experiment is.
    """
    about = card_of(module)
    cards = {"about this experiment": about, "how to read it": "methods/reading-a-report", "words": "glossary"}
    return "; ".join(f"{what}: {address(card)}" for what, card in cards.items() if card)


@cache
def _glossary() -> list[tuple[re.Pattern[str], str]]:
    found = []
    for term, meaning in re.findall(r"^\| (\*\*.+?) \| (.+) \|$", glossary_text(), re.MULTILINE):
        names = re.sub(r"[*`]", "", term)
        either = "|".join(re.escape(name.strip("± ")) for name in re.findall(r"[^,()]*\w", names))
        pattern = re.compile(rf"(?<!\w)({either})(s|es)?(?!\w)", 0 if len(either) < 4 else re.IGNORECASE)
        found.append((pattern, f"{names}: {re.sub(r'[*`]', '', meaning)}"))
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
