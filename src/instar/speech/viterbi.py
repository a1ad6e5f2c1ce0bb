"""Viterbi search: the best path through a graph, for a batch of utterances."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from instar.errors import UsageError
from instar.speech.graph import NO_WORD, Graph


class Segment(NamedTuple):
    """A word with its frames from `begin` to before `end`."""

    word: str
    begin: int
    end: int


class Path(NamedTuple):
    """The best path through an utterance."""

    states: Tensor
    """(frames,) int64, the HMM state of each frame"""
    segments: tuple[Segment, ...]
    score: float
    """log probability of the path and the frames, nats"""

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the path."""
        return tuple(segment.word for segment in self.segments)


def viterbi(
    scores: Tensor, graphs: Graph | Sequence[Graph], lengths: Sequence[int] | None = None
) -> list[Path | None]:
    """The best path of each utterance through its graph.

    d_1(n) = initial(n) + score_1(state of n),
    d_t(n) = max over arcs m -> n of (d_{t-1}(m) + weight) + score_t(state of n),
    best = max over n of d_T(n) + final(n)

    Args:
        scores: log likelihoods, (utterances, frames, states), or (frames, states) of one utterance.
        graphs: one for all utterances, or one for each.
        lengths: number of frames of each utterance, if they were padded.

    Returns:
        A path for each utterance; None if the graph has no path with that number of frames.

    Raises:
        UsageError: shapes do not match, or scores are NaN.

    References:
        Viterbi 1967; Rabiner 1989, section III.B.
    """
    if scores.dim() == 2:
        scores = scores[None]
    if scores.dim() != 3 or 0 in scores.shape:
        raise UsageError(f"scores should be (utterances, frames, states), found {tuple(scores.shape)}")
    batch, frames = scores.shape[:2]
    graphs = [graphs] * batch if isinstance(graphs, Graph) else list(graphs)
    lengths = [frames] * batch if lengths is None else list(lengths)
    if len(graphs) != batch or len(lengths) != batch or not all(0 < length <= frames for length in lengths):
        raise UsageError(
            f"scores are for {batch} utterances of up to {frames} frames, found {len(graphs)} graphs and lengths "
            f"{lengths}"
        )
    if bool(scores.isnan().any()):
        raise UsageError("acoustic scores contain NaN: the network or its input is damaged")
    table = _padded(graphs)
    ends, best, chosen = _forward(scores.double(), table, torch.tensor(lengths))
    nodes, arcs = _backward(chosen, table.predecessors, ends, lengths)
    return [
        _path(graphs[row], nodes[row, :length], arcs[row, :length], float(best[row]))
        if best[row] > -math.inf
        else None
        for row, length in enumerate(lengths)
    ]


class _Table(NamedTuple):
    """Several graphs, padded with unreachable nodes."""

    states: Tensor
    predecessors: Tensor
    weights: Tensor
    initial: Tensor
    final: Tensor


def _padded(graphs: Sequence[Graph]) -> _Table:
    if all(graph is graphs[0] for graph in graphs):
        same = graphs[0]
        parts = (same.states, same.predecessors, same.weights, same.initial, same.final)
        return _Table(*(part.expand(len(graphs), *part.shape) for part in parts))
    nodes = max(graph.num_nodes for graph in graphs)
    arcs = max(graph.weights.shape[1] for graph in graphs)
    table = _Table(
        torch.zeros(len(graphs), nodes, dtype=torch.int64),
        torch.zeros(len(graphs), nodes, arcs, dtype=torch.int64),
        torch.full((len(graphs), nodes, arcs), -math.inf, dtype=torch.float64),
        *torch.full((2, len(graphs), nodes), -math.inf, dtype=torch.float64),
    )
    for row, graph in enumerate(graphs):
        inner = slice(0, graph.num_nodes)
        table.states[row, inner], table.initial[row, inner] = graph.states, graph.initial
        table.final[row, inner] = graph.final
        table.predecessors[row, inner, : graph.weights.shape[1]] = graph.predecessors
        table.weights[row, inner, : graph.weights.shape[1]] = graph.weights
    return table


def _forward(scores: Tensor, table: _Table, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The last node and score of each utterance's best path, and the best arc into each node at each frame."""
    batch, nodes, arcs = table.weights.shape
    sources = table.predecessors.reshape(batch, nodes * arcs)
    delta = table.initial + scores[:, 0].gather(1, table.states)
    chosen = torch.zeros(scores.shape[1], batch, nodes, dtype=torch.int32)
    is_ragged = bool((lengths < scores.shape[1]).any())
    for frame in range(1, scores.shape[1]):
        arriving = delta.gather(1, sources).view(batch, nodes, arcs) + table.weights
        best, chosen[frame] = arriving.max(-1)
        best += scores[:, frame].gather(1, table.states)
        delta = torch.where((lengths > frame)[:, None], best, delta) if is_ragged else best
    best, ends = (delta + table.final).max(-1)
    return ends, best, chosen


def _backward(chosen: Tensor, predecessors: Tensor, ends: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The node of each frame and the arc into it: both (utterances, frames)."""
    batch, frames = len(lengths), len(chosen)
    nodes, arcs = torch.zeros(2, batch, frames, dtype=torch.int64)
    rows, last = torch.arange(batch), torch.tensor(lengths) - 1
    node = ends
    for frame in range(frames - 1, -1, -1):
        nodes[:, frame] = node
        arcs[:, frame] = arc = chosen[frame, rows, node].long()
        node = torch.where(last >= frame, predecessors[rows, node, arc], node)
    return nodes, arcs


def _path(graph: Graph, nodes: Tensor, arcs: Tensor, score: float) -> Path:
    words = graph.words[nodes]
    begins = graph.begins[nodes, arcs]
    begins[0] = True
    starts = begins.nonzero().flatten().tolist()
    parts = zip(words[starts].tolist(), starts, [*starts[1:], len(nodes)], strict=True)
    segments = tuple(Segment(graph.vocabulary[word], *frames) for word, *frames in parts if word != NO_WORD)
    return Path(graph.states[nodes], segments, score)
