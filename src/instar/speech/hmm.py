"""Left-to-right hidden Markov models of phones or words: states, transition probabilities and priors."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.errors import DataError, RunError, UsageError
from instar.files import write_bytes
from instar.speech.lexicon import Lexicon

STATES_OF_PHONE, STATES_OF_SILENCE = 3, 3
STATES_OF_WORD = 8  # a digit of 0.4 s has 40 frames


@dataclass(frozen=True)
class HMM:
    """The models of all units of a lexicon; unit u has states `u-0`, `u-1`, ..., from left to right.

    After each frame the model stays in state s with probability a_s and moves on with 1 - a_s, so the state lasts
    1 / (1 - a_s) frames on average.

    Attributes:
        lexicon: words and their pronunciations.
        num_states: by unit; units that the lexicon does not use are allowed.
        stay: (states,) float64, a_s, between 0 and 1.
        priors: (states,) float64, p(s), the share of all frames.

    Raises:
        DataError: a unit of the lexicon has no model, or a tensor has the wrong shape or values.

    Example:
        >>> hmm = HMM.new(Lexicon.of_phones({"two": "t uw"}))
        >>> hmm.state_names[:4], hmm.num_frames(("two",))
        (('sil-0', 'sil-1', 'sil-2', 't-0'), 6)

    References:
        Rabiner 1989; Hinton, Vinyals, Dean 2015, section 4.
    """

    lexicon: Lexicon
    num_states: Mapping[str, int]
    stay: Tensor
    priors: Tensor

    def __post_init__(self) -> None:
        for unit in self.lexicon.units:
            if unit not in self.num_states:
                kind = "word" if self.lexicon.is_whole_words else "phone"
                words = [
                    word for word, ways in self.lexicon.words.items() if any(unit in way.units for way in ways)
                ]
                of_word = f" (of the word {words[0]!r})" if words and words[0] != unit else ""
                raise DataError(f"{kind} {unit!r}{of_word} has no model: it was not in the training data")
        total = sum(self.num_states.values())
        for name, values in (("stay", self.stay), ("priors", self.priors)):
            if values.shape != (total,) or not bool(((values > 0) & (values < 1)).all()):
                raise DataError(f"{name} of an HMM should be {total} numbers between 0 and 1")

    @classmethod
    def new(
        cls,
        lexicon: Lexicon,
        *,
        states_of_phone: int = STATES_OF_PHONE,
        states_of_word: int = STATES_OF_WORD,
        states_of_silence: int = STATES_OF_SILENCE,
    ) -> "HMM":
        """Untrained models: each state lasts two frames on average, all states are equally frequent.

        Raises:
            UsageError: a number of states is below 1.
        """
        each = states_of_word if lexicon.is_whole_words else states_of_phone
        if min(each, states_of_silence) < 1:
            raise UsageError(f"each unit should have at least one state, found {min(each, states_of_silence)}")
        num_states = dict.fromkeys(lexicon.units, each) | {lexicon.silence: states_of_silence}
        total = sum(num_states.values())
        half = torch.full((total,), 0.5, dtype=torch.float64)
        return cls(lexicon, num_states, half, torch.full((total,), 1 / total, dtype=torch.float64))

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """The name `unit-k` of each state, in order."""
        return tuple(f"{unit}-{k}" for unit, count in self.num_states.items() for k in range(count))

    @cached_property
    def first_state(self) -> dict[str, int]:
        """The number of the first state by unit; the unit's other states follow it."""
        firsts, total = {}, 0
        for unit, count in self.num_states.items():
            firsts[unit], total = total, total + count
        return firsts

    @property
    def log_priors(self) -> Tensor:
        """(states,) float32, nats; see `acoustic_scores`."""
        return self.priors.log().float()

    def states_of(self, units: Iterable[str]) -> list[int]:
        """The states of a sequence of units, in order."""
        return [self.first_state[unit] + k for unit in units for k in range(self.num_states[unit])]

    def num_frames(self, words: Iterable[str]) -> int:
        """The smallest number of frames for a sequence of words: one for each state."""
        return sum(
            min(len(self.states_of(way.units)) for way in self.lexicon.pronunciations(word)) for word in words
        )

    def estimated(self, alignments: Iterable[Tensor]) -> "HMM":
        """The same models with `stay` and `priors` estimated from aligned frames.

        a_s = (n_s - v_s + 1) / (n_s + 2),   p(s) = (n_s + 1) / (N + S)

        for n_s frames in v_s visits of state s, N frames and S states. Adding 1 keeps the estimates of rare states
        between 0 and 1. Two consecutive visits of a one-state unit are counted as one.

        Args:
            alignments: (frames,) int64 state numbers of each utterance.
        """
        num_states = len(self.state_names)
        frames, visits = torch.zeros(2, num_states, dtype=torch.float64)
        for states in alignments:
            begins = torch.cat((states.new_ones(1, dtype=torch.bool), states[1:] != states[:-1]))
            frames += torch.bincount(states, minlength=num_states)
            visits += torch.bincount(states[begins], minlength=num_states)
        stay = (frames - visits + 1) / (frames + 2)
        return replace(self, stay=stay, priors=(frames + 1) / (frames.sum() + num_states))

    def to_json(self) -> dict[str, Any]:
        """The models as plain values for a JSON file."""
        return {
            "lexicon": self.lexicon.to_json(),
            "num_states": dict(self.num_states),
            "stay": self.stay.tolist(),
            "priors": self.priors.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "HMM":
        """The models from the output of `to_json`."""
        stay, priors = (torch.tensor(content[name], dtype=torch.float64) for name in ("stay", "priors"))
        return cls(Lexicon.from_json(content["lexicon"]), dict(content["num_states"]), stay, priors)

    def save(self, path: Path) -> None:
        """Write the models and their lexicon as JSON."""
        write_bytes(path, (json.dumps(self.to_json(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "HMM":
        """Read the models written by `save`.

        Raises:
            RunError: the file is missing or damaged.
        """
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read as an HMM ({error}): train the recogniser again") from error


def acoustic_scores(logits: Tensor, log_priors: Tensor) -> Tensor:
    """Scaled log likelihoods of the states from a network's logits: log posteriors minus log priors.

    log p(x | s) - log p(x) = log p(s | x) - log p(s)

    p(x) is the same for all states and does not change the best path. Without the subtraction the prior of a
    frequent state such as silence would count twice: in the network's posterior and in the path's probability.

    Args:
        logits: (frames, states).
        log_priors: (states,), nats.

    Returns: (frames, states), nats.

    Raises:
        UsageError: logits and priors have different numbers of states.

    Example:
        >>> acoustic_scores(torch.zeros(1, 2), torch.tensor([0.75, 0.25]).log()).exp()
        tensor([[0.6667, 2.0000]])

    References:
        Bourlard, Morgan 1994; Hinton, Vinyals, Dean 2015, section 4.
    """
    if logits.shape[-1:] != log_priors.shape:
        raise UsageError(f"logits have {logits.shape[-1]} states, log_priors have shape {tuple(log_priors.shape)}")
    return torch.log_softmax(logits, -1) - log_priors.to(logits)


def log_or_minus_inf(probability: float) -> float:
    """Natural logarithm; -inf for 0."""
    return math.log(probability) if probability > 0 else -math.inf
