"""Corpora: utterances with speakers and transcripts, and a function that reads their samples."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from instar.data.hashing import key_of
from instar.data.readers.audio import Samples
from instar.errors import DataError, UsageError
from instar.naming import unknown_name


@dataclass(frozen=True)
class Utterance:
    """One recording with its speaker and transcript.

    Args:
        id: unique in the corpus.
        speaker: the speaker's name.
        words: the transcript; empty if there is none.
        condition: recording condition, such as `clean` or `10 dB`.
    """

    id: str
    speaker: str
    words: tuple[str, ...] = ()
    condition: str = "clean"


@dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances and the function that reads their samples.

    Args:
        name: the user's name for it.
        sample_rate: of all recordings, Hz.
        utterances: at least one; their ids are unique.
        read: returns the samples of an utterance, (n,) float32; the same ones each time.
        content: a hash that determines all samples, for the fingerprint of generated corpora; empty hashes the
            samples.

    Raises:
        DataError: there is no utterance, or an id occurs twice.

    Example:
        >>> import numpy as np
        >>> two = [Utterance("a", "ann", ("yes",)), Utterance("b", "bob", ("no",))]
        >>> corpus = Corpus("answers", 8000, two, lambda _: np.zeros(800, np.float32))
        >>> corpus.speakers, corpus.of_speakers(["bob"]).utterances[0].words
        (('ann', 'bob'), ('no',))
    """

    name: str
    sample_rate: int
    utterances: Sequence[Utterance]
    read: Callable[[Utterance], Samples] = field(repr=False)
    content: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "utterances", tuple(self.utterances))
        if not self.utterances:
            raise DataError(f"corpus {self.name!r} has no utterances")
        if len(self._by_id) < len(self.utterances):
            [(twice, _)] = Counter(utterance.id for utterance in self.utterances).most_common(1)
            raise DataError(f"corpus {self.name!r}: utterance {twice!r} occurs twice; ids must be unique")

    @cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {utterance.id: utterance for utterance in self.utterances}

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, utterance_id: str) -> Utterance:
        """The utterance with an id.

        Raises:
            UsageError: no utterance has this id.
        """
        try:
            return self._by_id[utterance_id]
        except KeyError:
            raise unknown_name("utterance", utterance_id, self._by_id) from None

    def audio(self, utterance: Utterance | str) -> Samples:
        """The samples of an utterance: (n,) float32, from -1 to 1.

        Raises:
            DataError: its file cannot be read.
            UsageError: no utterance has this id.
        """
        return self.read(self[utterance] if isinstance(utterance, str) else utterance)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers in alphabetical order."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the sample rate and all utterances with their samples, in any order: 64 hex digits."""
        content = self.content.encode()
        digests = [_utterance_digest(one, content or self.audio(one).tobytes()) for one in self.utterances]
        return hashlib.sha256(str(self.sample_rate).encode() + b"".join(sorted(digests))).hexdigest()

    def subset(self, utterances: Iterable[Utterance | str]) -> "Corpus":
        """The given utterances, in the given order.

        Raises:
            DataError: there is none, or one occurs twice.
            UsageError: one is not in this corpus.
        """
        chosen = [self[one if isinstance(one, str) else one.id] for one in utterances]
        return Corpus(self.name, self.sample_rate, chosen, self.read, self.content)

    def where(self, holds: Callable[[Utterance], bool]) -> "Corpus":
        """The utterances for which `holds` returns True.

        Raises:
            DataError: there is none.
        """
        return self.subset([one for one in self.utterances if holds(one)])

    def of_speakers(self, speakers: Collection[str]) -> "Corpus":
        """The utterances of the given speakers.

        Raises:
            UsageError: no speaker is given, or one is not in the corpus.
        """
        for speaker in speakers:
            if speaker not in self.speakers:
                raise unknown_name("speaker", speaker, self.speakers)
        if not speakers:
            raise UsageError(f"corpus {self.name!r}: no speaker is given; it has {', '.join(self.speakers)}")
        return self.where(lambda utterance: utterance.speaker in speakers)

    def share(self, fraction: float, *, seed: int = 0) -> "Corpus":
        """A fraction of each speaker's utterances, at least one; smaller fractions are subsets of larger ones.

        Args:
            fraction: above 0 and at most 1.
            seed: determines the choice.

        Raises:
            UsageError: the fraction is out of range.
        """
        return self.subset(chosen_share(self.utterances, fraction, seed=seed))


def chosen_share(utterances: Sequence[Utterance], fraction: float, *, seed: int = 0) -> list[Utterance]:
    """A fraction of each speaker's utterances, at least one, in their order; see `Corpus.share`.

    Raises:
        UsageError: the fraction is out of range.

    Example:
        >>> utterances = [Utterance(f"{name}-{k}", name) for name in ("ann", "bob") for k in range(10)]
        >>> [utterance.speaker for utterance in chosen_share(utterances, 0.2)]
        ['ann', 'ann', 'bob', 'bob']
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"share: fraction is {fraction}, expected above 0 and at most 1")
    chosen: set[str] = set()
    for speaker in {utterance.speaker for utterance in utterances}:
        own = [utterance.id for utterance in utterances if utterance.speaker == speaker]
        own.sort(key=lambda name: key_of(f"share {name}", seed))
        chosen.update(own[: max(1, round(fraction * len(own)))])
    return [utterance for utterance in utterances if utterance.id in chosen]


def transcripts_of(utterances: Iterable[Utterance]) -> dict[str, tuple[str, ...]]:
    """The words of utterances by their ids."""
    return {utterance.id: utterance.words for utterance in utterances}


def joined(name: str, corpora: Sequence[Corpus]) -> Corpus:
    """The utterances of several corpora as one corpus.

    Raises:
        DataError: two utterances have the same id.
        UsageError: no corpus is given, or their sample rates differ.
    """
    rates = {corpus.sample_rate for corpus in corpora}
    if len(rates) != 1:
        raise UsageError(f"joined: the corpora should have one sample rate, found {sorted(rates)}")
    utterances = [utterance for corpus in corpora for utterance in corpus.utterances]
    readers = {utterance.id: corpus.read for corpus in corpora for utterance in corpus.utterances}
    contents = [corpus.content for corpus in corpora]
    content = " ".join(contents) if all(contents) else ""
    return Corpus(name, rates.pop(), utterances, lambda utterance: readers[utterance.id](utterance), content)


def _utterance_digest(utterance: Utterance, content: bytes) -> bytes:
    about = (utterance.id, utterance.speaker, utterance.words, utterance.condition)
    digest = hashlib.sha256(repr(about).encode())
    digest.update(content)
    return digest.digest()
