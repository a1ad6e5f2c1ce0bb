"""Corpora: utterances with their speakers and words, and a way to hear them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from instar.data.hashing import key_of
from instar.errors import DataError, UsageError
from instar.naming import unknown_name
from instar.speech.audio import Samples


@dataclass(frozen=True)
class Utterance:
    """One recording: its name, who speaks, what is said, and in which noise.

    Args:
        id: its own in the corpus.
        speaker: who speaks.
        words: in their order, as the transcript writes them; empty where there is no transcript.
        condition: what else tells recordings apart, such as `clean` or `10 dB`.
    """

    id: str
    speaker: str
    words: tuple[str, ...] = ()
    condition: str = "clean"


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances, and `read` to hear one; parts share what they were made from.

    Args:
        name: what the user calls it.
        sample_rate: of all recordings, in Hz.
        utterances: at least one, their ids all different.
        read: the samples of one, (n,) float32; the same each time.
        content: what decides all samples, where they are made from something shorter than themselves.

    Raises:
        DataError: no utterance, or two of one id.

    Example:
        >>> import numpy as np
        >>> two = [Utterance("a", "ann", ("yes",)), Utterance("b", "bob", ("no",))]
        >>> corpus = Corpus("answers", 8000, two, lambda _: np.zeros(800, np.float32))
        >>> corpus.speakers, corpus.of_speakers(["bob"]).utterances[0].words, corpus.seconds
        (('ann', 'bob'), ('no',), 0.2)
    """

    name: str
    sample_rate: int
    utterances: Sequence[Utterance]
    read: Callable[[Utterance], Samples] = field(repr=False)
    content: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "utterances", tuple(self.utterances))
        if not self.utterances:
            raise DataError(f"corpus {self.name!r} has no utterance")
        if len(self._by_id) < len(self.utterances):
            [(twice, _)] = Counter(one.id for one in self.utterances).most_common(1)
            raise DataError(f"corpus {self.name!r}: utterance {twice!r} occurs twice; each needs an id of its own")

    @cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {one.id: one for one in self.utterances}

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, utterance_id: str) -> Utterance:
        """The utterance of an id.

        Raises:
            UsageError: there is none.
        """
        try:
            return self._by_id[utterance_id]
        except KeyError:
            raise unknown_name("utterance", utterance_id, self._by_id) from None

    def audio(self, utterance: Utterance | str) -> Samples:
        """The samples of an utterance: (n,) float32, from -1 to 1.

        Raises:
            DataError: its file cannot be read.
            UsageError: there is no such utterance.
        """
        return self.read(self[utterance] if isinstance(utterance, str) else utterance)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, in the order of the alphabet."""
        return tuple(sorted({one.speaker for one in self.utterances}))

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions of the utterances, in the order in which they come."""
        return tuple(dict.fromkeys(one.condition for one in self.utterances))

    @cached_property
    def seconds(self) -> float:
        """How long all recordings are."""
        return sum(len(self.audio(one)) for one in self.utterances) / self.sample_rate

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits of the sample rate and of every utterance with its samples, in any order."""
        digests = [
            _utterance_digest(one, self.content.encode() if self.content else self.audio(one).tobytes())
            for one in self.utterances
        ]
        return hashlib.sha256(str(self.sample_rate).encode() + b"".join(sorted(digests))).hexdigest()

    def subset(self, utterances: Iterable[Utterance | str]) -> "Corpus":
        """The corpus of some of the utterances, in the order given.

        Raises:
            DataError: none is left, or one is there twice.
            UsageError: one that is not in this corpus.
        """
        chosen = [self[one if isinstance(one, str) else one.id] for one in utterances]
        return Corpus(self.name, self.sample_rate, chosen, self.read, self.content)

    def where(self, holds: Callable[[Utterance], bool]) -> "Corpus":
        """The corpus of the utterances for which something holds.

        Raises:
            DataError: it holds for none.
        """
        return self.subset([one for one in self.utterances if holds(one)])

    def of_speakers(self, speakers: Collection[str]) -> "Corpus":
        """What some speakers say.

        Raises:
            UsageError: a speaker who is not in the corpus, or none.
        """
        for speaker in speakers:
            if speaker not in self.speakers:
                raise unknown_name("speaker", speaker, self.speakers)
        if not speakers:
            raise UsageError(f"corpus {self.name!r}: no speaker is named; it has {', '.join(self.speakers)}")
        return self.where(lambda one: one.speaker in speakers)

    def share(self, fraction: float, *, seed: int = 0) -> "Corpus":
        """A fraction of every speaker's utterances, at least one of each; a smaller one is part of a larger one.

        Args:
            fraction: above 0 and at most 1.
            seed: chooses which.

        Raises:
            UsageError: the fraction is out of its range.
        """
        return self.subset(chosen_share(self.utterances, fraction, seed=seed))


def chosen_share(utterances: Sequence[Utterance], fraction: float, *, seed: int = 0) -> list[Utterance]:
    """A fraction of every speaker's utterances, at least one of each, in their order; see `Corpus.share`.

    Raises:
        UsageError: the fraction is out of its range.

    Example:
        >>> said = [Utterance(f"{name}-{k}", name) for name in ("ann", "bob") for k in range(10)]
        >>> [one.speaker for one in chosen_share(said, 0.2)]
        ['ann', 'ann', 'bob', 'bob']
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"share: fraction is {fraction}, expected above 0 and at most 1")
    chosen: set[str] = set()
    for speaker in {one.speaker for one in utterances}:
        own = [one.id for one in utterances if one.speaker == speaker]
        own.sort(key=lambda name: key_of(f"share {name}", seed))
        chosen.update(own[: max(1, round(fraction * len(own)))])
    return [one for one in utterances if one.id in chosen]


def joined(name: str, corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one.

    Raises:
        DataError: they share an utterance's id.
        UsageError: none is given, or their sample rates differ.
    """
    rates = {corpus.sample_rate for corpus in corpora}
    if len(rates) != 1:
        raise UsageError(f"joined: the corpora should have one sample rate, found {sorted(rates)}")
    readers = {one.id: corpus.read for corpus in corpora for one in corpus.utterances}
    utterances = [one for corpus in corpora for one in corpus.utterances]
    contents = [corpus.content for corpus in corpora]
    return Corpus(
        name,
        rates.pop(),
        utterances,
        lambda one: readers[one.id](one),
        " ".join(contents) if all(contents) else "",
    )


def _utterance_digest(utterance: Utterance, content: bytes) -> bytes:
    about = (utterance.id, utterance.speaker, utterance.words, utterance.condition)
    digest = hashlib.sha256(repr(about).encode())
    digest.update(content)
    return digest.digest()
