"""What teachers give for the rows of a store, in pieces: logits or hidden states, of examples or of positions.

Of sequences the last linear layer is computed apart, a few positions at a time: the logits of a batch of sequences
over a vocabulary would be gigabytes.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from instar.arguments import require_network
from instar.data import Dataset, batches, id_batches, seen_by
from instar.distillation.store_rows import tokens_of
from instar.errors import UsageError
from instar.evaluation import batch_size_of, batch_size_on, predict_logits
from instar.fused_head import opened, opened_head
from instar.logit_values import check_teacher_logits
from instar.naming import described
from instar.networks import (
    as_logits,
    call,
    evaluation_mode,
    forward_logits,
    input_type,
    network_fingerprint,
    network_identity,
)
from instar.structures import Inputs, device_of, in_type, is_plain, mask_place, to_device
from instar.teacher_checks import check_network, check_repeats, judged_ids, warn_of_classes

PIECE = 2**20
"""Logits that are worked on at a time: 4 MiB, of which a few copies are made, some in float64."""

_POSITIONS = 2**12
"""Of a batch of sequences, by default."""


@dataclass(frozen=True)
class Answers:
    """How the teachers of a store answer.

    Args:
        teachers: networks by name.
        data: the examples.
        heads: the linear layers that are computed apart, by the names of their teachers.
        hidden: whether the hidden states before the head are kept, in place of logits.
        lengths: the number of positions of each example, in the order of ascending ids; None where a teacher gives
            one answer for an example.
        length: of all sequences with their padding; None where batches are padded to their longest.
    """

    teachers: Mapping[str, nn.Module]
    data: Dataset
    heads: Mapping[str, nn.Linear]
    hidden: bool = False
    lengths: Tensor | None = None
    length: int | None = None

    @classmethod
    def of(cls, teachers: Mapping[str, Any], data: Dataset, *, hidden: bool) -> "Answers":
        """Ask the teachers for one example, to see what they give.

        Raises:
            UsageError: they are not networks by name, one gives sequences and another does not, or hidden states
                are wanted of a network without a linear head.
        """
        if not isinstance(teachers, Mapping):
            raise UsageError(
                f"teachers: expected networks by name, {{'big': network}}, found {described(teachers)}"
            )
        sizes, heads = dict[str, int | None](), dict[str, nn.Linear]()
        may_be_sequences = not is_plain(data.example_shape) or len(data.example_shape) == 2
        for name, network in teachers.items():
            require_network(f"teacher {name!r}", network)
            if not hidden and not may_be_sequences:
                continue
            inputs = _on_its_device(network, seen_by(network, data).gather(data.ids[:1], 0))
            found = opened_head(network, inputs, data.num_classes)
            shape = _shape_of_logits(network, inputs, found and found[1], data.num_classes)
            is_sequence = len(shape) == 3 and shape[-1] == data.num_classes
            sizes[name] = shape[1] if is_sequence else None
            if found is not None and (is_sequence or hidden):
                heads[name] = found[0]
            if hidden and found is None:
                raise UsageError(
                    f"teacher {name!r}: its logits are not the output of a linear layer (nn.Linear) of "
                    f"{data.num_classes} classes: hidden states cannot be kept; keep top_k logits"
                )
        if len({*map(bool, sizes.values())}) > 1:
            raise UsageError(f"teachers: some give logits for each position of a sequence, some do not: {sizes}")
        lengths, length = None, None
        if any(size is not None for size in sizes.values()):
            lengths, length = _lengths(data, max(size or 0 for size in sizes.values()))
        return cls(teachers, data, heads, hidden, lengths, length)

    @property
    def tokens(self) -> str | None:
        """What the ids of sequences are of, where their form says so."""
        return None if self.lengths is None else tokens_of(self.data)

    def known_by(self) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Fingerprints of the teachers, and what they answer to some examples, by name."""
        prints = {name: network_fingerprint(network) for name, network in self.teachers.items()}
        return prints, {name: self.sketch(name) for name in self.teachers}

    def sketch(self, name: str) -> dict[str, Any]:
        """A sketch of what a teacher answers to some examples: it shows its code, where weights do not."""
        network = self.teachers[name]
        with self._opened(name):
            examples = seen_by(network, self.data).examples()
            found: dict[str, Any] = network_identity(network, examples, trained=False)["outputs"]
        return found

    def check(self, device: str | torch.device) -> None:
        """Refuse teachers that no student should learn from, before anything is written; they are on the device.

        Raises:
            UsageError, TrainingError: as `check_network`; or other classes.
        """
        for name, network in self.teachers.items():
            what = f"teacher {name!r}"
            if self.lengths is not None:
                some = range(min(rows_at_once(self.data.num_classes), int(self.lengths.sum())))
                one, again = (next(self.pieces(some, batch_size=1, device=device))[0] for _ in range(2))
                if not self.hidden:
                    check_teacher_logits(what, one, temperature=1.0)
                check_repeats(f"{what}, in evaluation mode", one, again)
            else:
                _check_classifier(what, network, self.data, device)

    def pieces(self, rows: range, *, batch_size: int | None, device: str | torch.device) -> Iterator[Tensor]:
        """(members, rows, classes or width) float32 of some rows of the store, piece by piece.

        Batches start with the rows: the last bits depend on them.
        """
        if self.lengths is not None:
            (name,) = self.teachers
            yield from (piece[None] for piece in self._position_pieces(name, rows, batch_size))
            return
        data, ids = self.data, self.data.ids.sort().values
        networks = self.teachers.values()
        size = batch_size or min(batch_size_of(network, device) for network in networks)
        seen = [seen_by(network, data) for network in networks]
        with torch.no_grad():
            for view in range(rows[0] // len(ids), rows[-1] // len(ids) + 1):
                first = view * len(ids)
                wanted = ids[max(rows.start - first, 0) : rows.stop - first]
                for some, inputs, _ in batches(data, id_batches(wanted, size), view=view):
                    given = [inputs if one is data else one.gather(some, view) for one in seen]
                    yield torch.stack([self._answer(*pair) for pair in zip(self.teachers, given, strict=True)])

    def _answer(self, name: str, inputs: Inputs) -> Tensor:
        with self._opened(name) if self.hidden else nullcontext():
            return forward_logits(self.teachers[name], inputs).float().cpu()

    def _position_pieces(self, name: str, rows: range, batch_size: int | None) -> Iterator[Tensor]:
        assert self.lengths is not None
        network, head, num_classes = self.teachers[name], self.heads.get(name), self.data.num_classes
        data, ends = seen_by(network, self.data), self.lengths.cumsum(0)
        starts, longest = ends - self.lengths, int(self.lengths.max())
        first, last = (int(torch.searchsorted(ends, row, right=True)) for row in (rows.start, rows.stop - 1))
        places = torch.arange(first, last + 1)
        most = _POSITIONS if head is not None else min(_POSITIONS, 64 * PIECE // num_classes)
        size, ids = batch_size or max(most // longest, 1), data.ids.sort().values
        batched = batches(data, id_batches(ids[places], size), view=0)
        with torch.no_grad():
            for some, (_, inputs, _) in zip(torch.split(places, size), batched, strict=True):
                with self._opened(name):
                    answers = as_logits(call(network, in_type(inputs, input_type(network))), network)
                positions = torch.arange(answers.shape[1])
                is_there = positions < self.lengths[some][:, None]
                if int(is_there.sum()) < int(self.lengths[some].sum()):
                    raise UsageError(
                        f"teacher {name!r} answers {answers.shape[1]} positions of sequences of up to "
                        f"{int(self.lengths[some].max())}: it should give logits for each position"
                    )
                places_there = starts[some][:, None] + positions
                is_there &= (places_there >= rows.start) & (places_there < rows.stop)
                for part in torch.split(answers[is_there.to(answers.device)], rows_at_once(num_classes)):
                    if head is not None and not self.hidden:
                        part = functional.linear(part, head.weight, head.bias)
                    yield part.float().cpu()

    def _opened(self, name: str) -> Any:
        """Where the head is computed apart, within it the teacher gives the hidden states before it."""
        head = self.heads.get(name)
        return nullcontext() if head is None else opened(head)


def _on_its_device(network: nn.Module, inputs: Inputs) -> Inputs:
    return to_device(inputs, next((value.device for value in network.parameters()), device_of(inputs)))


def _shape_of_logits(
    network: nn.Module, inputs: Inputs, states: Tensor | None, num_classes: int
) -> tuple[int, ...]:
    """Without laying them out, where the hidden states before the head are known."""
    if states is not None:
        return (*states.shape[:-1], num_classes)
    with evaluation_mode(network), torch.no_grad():
        return tuple(forward_logits(network, inputs).shape)


def rows_at_once(num_classes: int) -> int:
    """Rows of logits that are worked on at a time."""
    return max(PIECE // num_classes, 1)


def _lengths(data: Dataset, size: int) -> tuple[Tensor, int | None]:
    """The number of positions of each example by ascending ids, and that of all with padding, where it is one.

    Args:
        data: the examples; the mask in their form says which positions exist, all without one.
        size: the number of positions that the teacher gave for one example.
    """
    place = mask_place(data.example_shape)
    if place is None:
        return torch.full((len(data),), size), size
    parts = [data.gather(ids, 0)[place].sum(1).cpu() for ids in torch.split(data.ids.sort().values, 1024)]
    length = data.example_shape[place][-1]
    return torch.cat(parts), length if isinstance(length, int) else None


def _check_classifier(name: str, network: nn.Module, data: Dataset, device: str | torch.device) -> None:
    judged = data.subset(judged_ids(data))
    check_network(network, seen_by(network, judged).gather(judged.ids[: batch_size_on(device)], 0), name=name)
    logits = predict_logits(network, judged, device=device)
    if logits.shape != (len(judged), data.num_classes):
        raise UsageError(
            f"{name} returns {tuple(logits.shape)} for {len(judged)} examples, expected logits "
            f"({len(judged)}, {data.num_classes}): it was trained on other classes"
        )
    warn_of_classes(logits, judged.labels(judged.ids), data.class_names, name=name)
