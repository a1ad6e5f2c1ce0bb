"""Ids of examples, made from their content, and the fingerprint of a data set."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from instar.data.hashing import key_of, keyed_hash
from instar.errors import UsageError
from instar.structures import Form

_NOTHING_HASHED = hashlib.blake2b(digest_size=8)  # as many bytes as an id has
_DIGESTS_AT_ONCE = 2**12
_MANY = 2**16  # ids, whose search does not stay in the cache of a processor
_MANY_HASHED = 2**20  # ids, whose hash table takes more memory than it saves time


_ASCENDING: Any = WeakTensorKeyDictionary()
"""Of the ids of an index, as long as they live: the same in ascending order."""
_PLACES: Any = WeakTensorKeyDictionary()
"""Of ids that `in_order` gave, as long as they live: those that they were taken from, and their places there."""


def _remember(memory: Any, ids: Tensor, *what: Tensor) -> None:
    if not ids.is_inference():  # nothing tells when such a tensor is written to
        memory[ids] = ids._version, what


def _remembered(memory: Any, ids: Tensor) -> tuple[Tensor, ...] | None:
    """What is known of ids, unless they were written to since."""
    version, what = (None, None) if ids.is_inference() else memory.get(ids, (None, None))
    return what if version is not None and version == ids._version else None


def in_order(ids: Tensor, turns: Callable[[int], Tensor]) -> Tensor:
    """Ids in another order, that the index of the same tensor finds at once: neither sorts them again.

    Args:
        ids: (n,) int64.
        turns: of n gives the place of each of them among the ascending ids.

    Example:
        >>> in_order(torch.tensor([30, 10, 20]), lambda number: torch.tensor([2, 0, 1])).tolist()
        [30, 10, 20]
    """
    (ascending,) = _remembered(_ASCENDING, ids) or (ids.sort().values,)
    places = turns(len(ids)).to(ids.device)
    ordered: Tensor = ascending[places]
    _remember(_PLACES, ordered, ascending, places)
    return ordered


class IdIndex:
    """Ids in ascending order, and the places of a batch of ids among them.

    Args:
        ids: (n,) int64, all different.
        owner: what the ids belong to, for the error about a missing id.
        remedy: what to do about it.

    Attributes:
        ids: (n,) int64, ascending.
        order: (n,) the place that each of the ascending ids had before, see `in_few_bytes`.

    Raises:
        UsageError: an id occurs twice.

    Example:
        >>> index = IdIndex(torch.tensor([30, 10, 20]), "the example", "ask for others")
        >>> index.find(torch.tensor([20, 30])).tolist(), index.order.tolist()
        ([1, 2], [1, 2, 0])
    """

    def __init__(self, ids: Tensor, owner: str, remedy: str) -> None:
        self.ids, order = ids.sort()
        _remember(_ASCENDING, ids, self.ids)
        self.order = in_few_bytes(order)
        self._owner, self._remedy = owner, remedy
        twice = self.ids[1:] == self.ids[:-1]
        if bool(twice.any()):
            raise UsageError(f"id {int(self.ids[1:][twice][0])} occurs more than once; ids are unique")

    def find(self, ids: Tensor) -> Tensor:
        """(batch,) int64: the place of each id in the ascending order, on the device of the index.

        Raises:
            UsageError: an id is missing.
        """
        among, places = _remembered(_PLACES, ids) or (None, ids)
        if among is self.ids:
            return places
        ids = ids.to(self.ids.device).contiguous()
        places = self._places(ids)
        if not torch.equal(self.ids[places], ids):
            missing = ids[self.ids[places] != ids]
            raise UsageError(
                f"{len(missing)} of {len(ids)} ids are not in {self._owner}, the first {int(missing[0])}; "
                f"{self._remedy}"
            )
        return places

    def holds(self, ids: Tensor) -> Tensor:
        """(batch,) bool: whether each id is one of them; `torch.isin` sorts both sides anew, five times as slow.

        Example:
            >>> IdIndex(torch.tensor([30, 10]), "the example", "").holds(torch.tensor([10, 20])).tolist()
            [True, False]
        """
        ids = ids.to(self.ids.device).contiguous()
        return self.ids[self._places(ids)] == ids

    def _places(self, ids: Tensor) -> Tensor:
        if len(ids) < _MANY:
            return torch.searchsorted(self.ids, ids).clamp_(max=len(self.ids) - 1)
        # In their order: at random, one of five million costs six times what one of ten thousand does.
        ascending, order = ids.sort()
        places = torch.empty_like(order)
        places[order] = torch.searchsorted(self.ids, ascending).clamp_(max=len(self.ids) - 1)
        return places


def in_few_bytes(rows: Tensor) -> Tensor:
    """Numbers of rows as int32 where that is enough: of ten million examples every eight bytes are 80 MB.

    Example:
        >>> in_few_bytes(torch.tensor([3, 1])).dtype
        torch.int32
    """
    return rows.int() if len(rows) == 0 or int(rows.max()) < 2**31 else rows


def content_ids(contents: Iterable[Any], labels: Tensor) -> Tensor:
    """An id for each example, made from its bytes: it is the same in subsets and in any order of the files.

    id = blake2b(content); the k-th copy of the same content (k > 0) gets a hash of k and that id. Copies are
    counted in the order of their labels, so that copies that differ in label keep their ids in any order too.

    Args:
        contents: a bytes-like object for each example.
        labels: (n,) int64.

    Returns: (n,) int64, all different.

    Example:
        >>> content_ids([b"one", b"two", b"one"], torch.tensor([0, 1, 0])).unique().numel()
        3
    """
    packed, contents = bytearray(), iter(contents)  # eight bytes each: a list of digests would take a hundred
    while some := list(map(_digest, islice(contents, _DIGESTS_AT_ONCE))):
        packed += b"".join(some)
    ids = torch.from_numpy(np.frombuffer(packed, dtype="<i8").astype(np.int64, copy=False))
    ascending = ids.sort().values
    if bool((ascending[1:] == ascending[:-1]).any()):
        order = labels.cpu().argsort(stable=True)
        order = order[ids[order].argsort(stable=True)]  # equal ids stand together, in the order of their labels
        counts = torch.from_numpy(np.unique(ids.numpy(), return_counts=True)[1])
        copies = torch.arange(len(ids)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        keys = torch.tensor([key_of("copy", copy) for copy in range(int(counts.max()))])
        rows, keys = order[copies > 0], keys[copies[copies > 0]]
        ids[rows] = keyed_hash(keys, ids[rows])
    return ids


def _digest(content: Any) -> bytes:
    """The BLAKE2b of eight bytes; a copy of a state that has hashed nothing is made faster than a new one."""
    state = _NOTHING_HASHED.copy()
    state.update(content)
    return state.digest()


def order_of_copies(labels: Tensor, label_probs: Tensor | None) -> Tensor:
    """What `content_ids` takes where labels are distributions: the order of these, of the likeliest class first.

    Args:
        labels: (n,) int64.
        label_probs: (n, classes), or None.

    Returns: (n,) int64.

    Example:
        >>> probs = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
        >>> order_of_copies(torch.tensor([0, 0, 1]), probs).argsort().tolist()
        [0, 1, 2]
    """
    if label_probs is None:
        return labels
    different, places = np.unique(label_probs.cpu().numpy(), axis=0, return_inverse=True)
    return labels.cpu() * len(different) + torch.from_numpy(places.reshape(-1))


def original_rows(ids: Tensor) -> Tensor:
    """The row of each example's original: the first of byte-identical examples, the example itself for all others.

    Copies are recognised by their `content_ids`; among other ids there are none.

    Args:
        ids: (n,) int64, all different.

    Returns: (n,) int64.

    Example:
        >>> ids = content_ids([b"one", b"two", b"one"], torch.tensor([0, 1, 0]))
        >>> original_rows(ids).tolist()
        [0, 1, 0]
    """
    originals = torch.arange(len(ids), device=ids.device)
    if len(ids) < _MANY_HASHED and not _any_in(_copy_ids(ids, 1), ids):
        return originals  # as most data: found by hashing in a quarter of the time of a search
    index = IdIndex(ids, "the data", "")
    rows = originals.clone()
    copy = 1
    while len(rows):
        found = []
        for some in torch.split(rows, _MANY_HASHED):  # millions of rows take little beside themselves
            copies = _copy_ids(ids[some], copy)
            is_there = index.holds(copies)
            found.append(some[is_there])
            originals[index.order[index.find(copies[is_there])]] = found[-1]
        rows = torch.cat(found)
        copy += 1
    return originals


def _any_in(ids: Tensor, others: Tensor) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    here, there = (pa.array(one.cpu().numpy()) for one in (ids, others))
    return bool(pc.any(pc.is_in(here, value_set=there)).as_py())


def shared_rows(ids: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the examples that other data hold too, and for each of them a row there.

    Args:
        ids, others: (n,) and (m,) int64, `content_ids` of different data.

    Example:
        >>> labels = torch.tensor([0, 0, 0])
        >>> ids, others = content_ids([b"a", b"b", b"a"], labels), content_ids([b"c", b"a", b"d"], labels)
        >>> [rows.tolist() for rows in shared_rows(ids, others)]
        [[0, 2], [1, 1]]
    """
    ids, others = ids.cpu(), others.cpu()
    contents, index = ids[original_rows(ids)], IdIndex(others, "the other data", "")
    rows = index.holds(contents).nonzero().squeeze(1)
    return rows, index.order[index.find(contents[rows])].long()


def _copy_ids(ids: Tensor, copy: int) -> Tensor:
    """The ids of the k-th copies of examples."""
    return keyed_hash(key_of("copy", copy), ids)


def fingerprint_of(
    ids: Tensor, labels: Tensor, class_names: Sequence[str], form: Form, *, label_probs: Tensor | None = None
) -> str:
    """SHA-256 of the (id, label) pairs in ascending order, the class names and the form, as 64 hex digits.

    Labels that are distributions, (n, classes), are hashed too.
    """
    ids, labels = ids.cpu(), labels.cpu()  # the ids of streaming data are in main memory
    order = ids.argsort()
    pairs = torch.stack((ids[order], labels[order]), dim=1).numpy().astype("<i8")
    digest = hashlib.sha256(repr((tuple(class_names), form)).encode())
    digest.update(pairs.tobytes())
    if label_probs is not None:
        digest.update(label_probs.cpu()[order].double().numpy().astype("<f8").tobytes())
    return digest.hexdigest()
