"""Hidden Markov models of units, left to right: their states, how long each lasts, how frequent it is."""

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
    """The states of all units of a lexicon; unit u has states `u-0`, `u-1`, ..., passed from left to right.

    In state s the model stays for the next frame with probability a_s and moves on with 1 - a_s, so it lasts
    1 / (1 - a_s) frames in the mean.

    Attributes:
        lexicon: the words that it can say.
        num_states: of each unit; units that the lexicon does not use may be there.
        stay: (states,) float64, a_s, between 0 and 1.
        priors: (states,) float64, the share p(s) of all frames.

    Raises:
        DataError: a unit of the lexicon has no model, or the tensors do not fit.

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
                word = next(
                    (w for w, said in self.lexicon.words.items() if any(unit in x.units for x in said)), ""
                )
                kind = "word" if self.lexicon.is_whole_words else "phone"
                of_word = f" (of the word {word!r})" if word and word != unit else ""
                raise DataError(f"{kind} {unit!r}{of_word} has no model: it was not in the training data")
        total = sum(self.num_states.values())
        for name, values in (("stay", self.stay), ("priors", self.priors)):
            if values.shape != (total,) or not bool(((values > 0) & (values < 1)).all()):
                raise DataError(f"the HMM's {name} should be {total} numbers between 0 and 1")

    @classmethod
    def new(
        cls,
        lexicon: Lexicon,
        *,
        states_of_phone: int = STATES_OF_PHONE,
        states_of_word: int = STATES_OF_WORD,
        states_of_silence: int = STATES_OF_SILENCE,
    ) -> "HMM":
        """Models that know nothing yet: each state lasts two frames in the mean, all are as frequent.

        Raises:
            UsageError: a number of states below 1.
        """
        each = states_of_word if lexicon.is_whole_words else states_of_phone
        if min(each, states_of_silence) < 1:
            raise UsageError("a unit has at least one state")
        num_states = dict.fromkeys(lexicon.units, each) | {lexicon.silence: states_of_silence}
        total = sum(num_states.values())
        half = torch.full((total,), 0.5, dtype=torch.float64)
        return cls(lexicon, num_states, half, torch.full((total,), 1 / total, dtype=torch.float64))

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """`unit-k` of each state, in the order of the states."""
        return tuple(f"{unit}-{k}" for unit, count in self.num_states.items() for k in range(count))

    @cached_property
    def first_state(self) -> dict[str, int]:
        """The number of each unit's first state; its others follow."""
        firsts, total = {}, 0
        for unit, count in self.num_states.items():
            firsts[unit], total = total, total + count
        return firsts

    @property
    def log_priors(self) -> Tensor:
        """(states,) float32, nats: what acoustic scores subtract."""
        return self.priors.log().float()

    def states_of(self, units: Iterable[str]) -> list[int]:
        """The states that a sequence of units passes."""
        return [self.first_state[unit] + k for unit in units for k in range(self.num_states[unit])]

    def num_frames(self, words: Iterable[str]) -> int:
        """The fewest frames that words can be said in: one for each state."""
        return sum(
            min(len(self.states_of(way.units)) for way in self.lexicon.pronunciations(word)) for word in words
        )

    def with_lexicon(self, lexicon: Lexicon) -> "HMM":
        """The same models for other words.

        Raises:
            DataError: a unit of it has no model here.
        """
        return replace(self, lexicon=lexicon)

    def estimated(self, alignments: Iterable[Tensor]) -> "HMM":
        """The same models with `stay` and `priors` from aligned frames.

        a_s = (n_s - v_s + 1) / (n_s + 2),   p(s) = (n_s + 1) / (N + S)

        for n_s frames in v_s visits, N frames and S states; the ones added keep all numbers between 0 and 1
        where little was seen. Two visits of a one-state unit in a row count as one.

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
        """Plain values for a JSON file."""
        return {
            "lexicon": self.lexicon.to_json(),
            "num_states": dict(self.num_states),
            "stay": self.stay.tolist(),
            "priors": self.priors.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "HMM":
        """The models that `to_json` wrote."""
        stay, priors = (torch.tensor(content[name], dtype=torch.float64) for name in ("stay", "priors"))
        return cls(Lexicon.from_json(content["lexicon"]), dict(content["num_states"]), stay, priors)

    def save(self, path: Path) -> None:
        """Write the models and their lexicon as JSON."""
        write_bytes(path, (json.dumps(self.to_json(), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "HMM":
        """The models that `save` wrote.

        Raises:
            RunError: the file is not there or is damaged.
        """
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} cannot be read as an HMM: {error}; train again") from error


def acoustic_scores(logits: Tensor, log_priors: Tensor) -> Tensor:
    """Scaled log likelihoods of the states from a network's logits.

    log p(x | s) - log p(x) = log p(s | x) - log p(s)

    p(x) is the same for all states and changes no path. Without the prior a frequent state (silence) would be
    counted twice: once by the network, which has learned how frequent it is, and once by the path.

    Args:
        logits: (frames, states).
        log_priors: (states,), nats.

    Returns: (frames, states), nats.

    Raises:
        UsageError: another number of states.

    Example:
        >>> acoustic_scores(torch.zeros(1, 2), torch.tensor([0.75, 0.25]).log()).exp()
        tensor([[0.6667, 2.0000]])

    References:
        Bourlard, Morgan 1994; Hinton, Vinyals, Dean 2015, section 4.
    """
    if logits.shape[-1:] != log_priors.shape:
        raise UsageError(f"logits of {logits.shape[-1]} states and priors of {tuple(log_priors.shape)} do not fit")
    return torch.log_softmax(logits, -1) - log_priors.to(logits)


def log_or_minus_inf(probability: float) -> float:
    """Natural logarithm, and -inf of 0."""
    return math.log(probability) if probability > 0 else -math.inf
