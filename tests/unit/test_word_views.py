"""Views of words against loops over words; pure functions of example and view."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from instar.data import InMemoryDataset, load_data, numbered, parse_views
from instar.data.columns import Varying
from instar.data.hashing import DRAW_BITS, draws, key_of
from instar.data.vocabulary import Vocabulary
from instar.errors import UsageError

KINDS = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 0, 1], dtype=torch.uint8)  # 8 masks; 6 and 7 go on with a word
VOCABULARY = Vocabulary(10, "test", KINDS, mask=8, pad=0)
TEXTS = [[1, 2, 6, 3, 4, 6, 7, 5, 1], [1, 9, 1], [2, 3, 4, 5, 9, 2, 6], [1, 2, 3, 1, 4, 5, 1]]


def data() -> InMemoryDataset:
    lengths = torch.tensor([len(text) for text in TEXTS])
    ids = Varying(torch.tensor([id for text in TEXTS for id in text]), lengths, 0, VOCABULARY)
    return InMemoryDataset({"input_ids": ids}, torch.tensor([0, 1, 0, 1]), class_names=["a", "b"])


def parts_of(text: list[int]) -> list[list[int]]:
    """Words, and special ids alone."""
    found: list[list[int]] = []
    for id in text:
        if KINDS[id] == 2:
            found[-1].append(id)
        else:
            found.append([id])
    return found


def drop(words: list[list[int]], chances: list[int], rate: float) -> list[list[int]]:
    is_word = [bool(KINDS[word[0]]) for word in words]
    numbers = [sum(is_word[:place]) for place in range(len(words))]
    limit = int(rate * 2**DRAW_BITS)
    best = max((chances[number] for number, one in zip(numbers, is_word, strict=True) if one))
    return [
        word
        for word, number, one in zip(words, numbers, is_word, strict=True)
        if not one or chances[number] >= limit or chances[number] == best
    ]


def mask(words: list[list[int]], chances: list[int], rate: float) -> list[list[int]]:
    found, number = [], 0
    for word in words:
        hidden = bool(KINDS[word[0]]) and chances[number] < int(rate * 2**DRAW_BITS)
        found.append([8] * len(word) if hidden else word)
        number += bool(KINDS[word[0]])
    return found


def swap(words: list[list[int]], chances: list[int], rate: float, whole: int) -> list[list[int]]:
    words, first = list(words), whole >> (DRAW_BITS - 1)
    number = 0
    for place, word in enumerate(list(words)):
        if not KINDS[word[0]]:
            continue
        has_next = place + 1 < len(words) and bool(KINDS[words[place + 1][0]])
        if has_next and number % 2 == first and chances[number] < int(rate * 2**DRAW_BITS):
            words[place], words[place + 1] = words[place + 1], words[place]
        number += 1
    return words


@pytest.mark.parametrize(("name", "slow"), [("drop:0.4", drop), ("mask:0.4", mask), ("swap:0.7", swap)])
def test_against_loops_over_words(name: str, slow: Callable[..., list[list[int]]]) -> None:
    whole = data().with_views(parse_views(name), view_seed=3)
    kind, _, rate = name.partition(":")
    changed = 0
    for row, text in enumerate(TEXTS):
        for view in range(1, 30):
            id = whole.ids[row : row + 1]
            first, *chances = draws(key_of(f"views:{kind}", 3), id, view, range(len(text) + 1))[0].tolist()
            more = (first,) if slow is swap else ()
            expected = [one for word in slow(parts_of(text), chances, float(rate), *more) for one in word]
            found = whole.gather(id, view)
            there = found["attention_mask"][0].bool()
            assert found["input_ids"][0][there].tolist() == expected
            assert not found["input_ids"][0][~there].any()
            changed += expected != text
    assert 20 < changed < 116


@pytest.mark.parametrize("name", ["drop:0.3", "mask:0.3", "swap:0.5", "swap:0.3+drop:0.3+mask:0.2"])
def test_pure_and_view_0_unchanged(name: str) -> None:
    whole = data()
    shown = whole.with_views(parse_views(name), view_seed=0)
    assert shown.views is not None
    assert shown.views.name == name
    before, same = whole.gather(whole.ids, 0), shown.gather(whole.ids, 0)
    assert all(torch.equal(before[key], same[key]) for key in before)
    views = torch.tensor([1, 2, 1, 7])

    def alone(row: int) -> Tensor:
        found = shown.gather(whole.ids[row : row + 1], views[row : row + 1])
        return found["input_ids"][0][found["attention_mask"][0].bool()]

    together = shown.gather(whole.ids, views)
    for row in range(4):
        there = together["attention_mask"][row].bool()
        assert torch.equal(together["input_ids"][row][there], alone(row))


def test_what_has_no_words_is_refused() -> None:
    digits = load_data("digits").train
    with pytest.raises(UsageError, match=r"views 'drop:0.1' are of words, and the examples are no texts"):
        digits.with_views(parse_views("drop:0.1"), view_seed=0)
    with pytest.raises(UsageError, match=r"need images"):
        data().with_views(parse_views("jitter:1"), view_seed=0)
    plain = InMemoryDataset(
        {"input_ids": numbered([[1, 2], [3]], 10)}, torch.tensor([0, 1]), class_names=["a", "b"]
    )
    with pytest.raises(UsageError, match=r"which ids begin a word is not known"):
        plain.with_views(parse_views("swap:0.1"), view_seed=0)
    for text in ("drop:0", "mask:1", "swap:-0.1"):
        with pytest.raises(UsageError, match=r"should be above 0 and below 1"):
            parse_views(text)
    with pytest.raises(UsageError, match=r"view 'drop:a' should be drop:RATE"):
        parse_views("drop:a")
