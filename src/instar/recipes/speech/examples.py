"""Test strings for the page: the units of their alignment, and the words that a distilled network recognises."""

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from instar.evaluation import predict_logits
from instar.recipes.loading import load_run_network
from instar.recipes.speech.data import MODELS, load_frames
from instar.recipes.speech.reproduction_plan import DISTILLED, Plan, alignment_name, scores_name
from instar.runs import Run
from instar.speech.connected import quiet_id
from instar.speech.corpus import Utterance
from instar.speech.decoding import Decoder
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM, acoustic_scores

_NUM_WORDS, _MOST_NOISES = 5, 3
Span = tuple[str, float, float]
"""A text with its begin and end, as shares of the recording."""


def examples(plan: Plan) -> list[dict[str, Any]]:
    """A string of the first fold's test speaker in several noises, with the words of a distilled network."""
    jobs = plan.path / "jobs"
    test, alignment = Run.read(jobs / scores_name(0)), jobs / alignment_name(0)
    frames = load_frames(plan.source(0), "test", alignment)
    network = load_run_network(jobs / plan.networks(0, test.config["same"][DISTILLED])[0])
    hmm, chosen = HMM.load(alignment / MODELS), test.result()["metrics"]
    decoder = Decoder(hmm, Grammar.loop(hmm.lexicon.words), **chosen)
    found = []
    for utterance in _chosen(frames.utterances):
        own = frames.of_utterances([utterance.id])
        path = decoder(acoustic_scores(predict_logits(network, own), hmm.log_priors))
        states = own.labels(own.ids)
        found.append(
            {
                "id": utterance.id,
                "speaker": utterance.speaker,
                "condition": utterance.condition,
                "said": list(utterance.words),
                "units": unit_spans(states, hmm.state_names),
                "heard": [(word, begin / len(states), end / len(states)) for word, begin, end in path.segments],
            }
        )
    return found


def _chosen(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The first string of about five words, in up to three noises."""
    strings: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        strings.setdefault(quiet_id(utterance), []).append(utterance)
    return min(strings.values(), key=lambda noises: abs(len(noises[0].words) - _NUM_WORDS))[:_MOST_NOISES]


def unit_spans(states: Tensor, names: Sequence[str]) -> list[Span]:
    """Where each unit begins and ends, without silence.

    Example:
        >>> import torch
        >>> unit_spans(torch.tensor([0, 1, 2, 2]), ["sil-0", "one-0", "one-1"])
        [('one', 0.25, 1.0)]
    """
    units = [names[state].rpartition("-")[0] for state in states.tolist()]
    begins = [0, *(place for place in range(1, len(units)) if units[place] != units[place - 1]), len(units)]
    return [
        (units[begin], begin / len(units), end / len(units))
        for begin, end in itertools.pairwise(begins)
        if units[begin] != "sil"
    ]
