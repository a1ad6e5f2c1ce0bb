"""HMMs, graphs, alignment, decoding and scores: what they do and what they refuse."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instar.errors import DataError, RunError, UsageError
from instar.speech import graph, wfst
from instar.speech.alignment import align, equal_shares, flat_start
from instar.speech.decoding import Decoder, try_decoders, tune_decoder
from instar.speech.grammar import Grammar
from instar.speech.graph import compile_graph
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.lexicon import ENGLISH_DIGITS, Lexicon, digits_lexicon
from instar.speech.scoring import NOTHING, wer_difference, word_errors
from speech_models import random_hmm, random_scores

SEARCHES = ("viterbi", "kaldi")


def test_a_word_that_is_not_in_the_lexicon_says_which_is_near() -> None:
    with pytest.raises(DataError, match=r"unknown word 'seve'; did you mean seven\?.*add it to the lexicon"):
        digits_lexicon().pronunciations("seve")
    hmm = HMM.new(digits_lexicon())
    with pytest.raises(DataError, match="utterance u2: unknown word 'ten'"):
        align(hmm, {"u1": ("one",), "u2": ("one", "ten")}, {}.__getitem__)
    with pytest.raises(DataError, match="unknown word 'ten'"):
        Decoder(hmm, Grammar.loop(["one", "ten"]), search="viterbi")


def test_a_phone_without_model_is_named_with_its_word() -> None:
    hmm = HMM.new(Lexicon.of_phones({"two": "t uw"}))
    assert replace(hmm, lexicon=Lexicon.of_phones({"toot": "t uw t"})).num_frames(["toot"]) == 9
    with pytest.raises(DataError, match=r"phone 'n' \(of the word 'noon'\) has no model"):
        replace(hmm, lexicon=Lexicon.of_phones({"two": "t uw", "noon": "n uw n"}))
    words = HMM.new(Lexicon.of_words(["a"]))
    with pytest.raises(DataError, match="word 'b' has no model"):
        replace(words, lexicon=Lexicon.of_words(["a", "b"]))


def test_an_hmm_comes_back_from_its_file(tmp_path: Path) -> None:
    hmm = random_hmm(digits_lexicon(), seed=0, states=3)
    hmm.save(tmp_path / "hmm.json")
    again = HMM.load(tmp_path / "hmm.json")
    assert again.state_names == hmm.state_names
    assert again.lexicon == hmm.lexicon
    assert torch.equal(again.stay, hmm.stay)
    assert torch.equal(again.priors, hmm.priors)
    for content in ("", "{}", '{"lexicon": 3}', "[1]"):
        (tmp_path / "hmm.json").write_text(content)
        with pytest.raises(RunError, match="cannot be read as an HMM"):
            HMM.load(tmp_path / "hmm.json")


def test_no_state_and_no_word_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one state"):
        HMM.new(digits_lexicon(), states_of_phone=0)
    with pytest.raises(UsageError, match="at least one word"):
        Grammar.loop([])
    with pytest.raises(UsageError, match="order of the n-gram is 0"):
        Grammar.ngram([("a",)], order=0)
    with pytest.raises(UsageError, match="silence_probability is 1"):
        compile_graph(HMM.new(digits_lexicon()), Grammar.loop(["one"]), silence_probability=1)


def test_an_utterance_too_short_for_its_words_is_skipped_and_named() -> None:
    hmm = HMM.new(Lexicon.of_phones({"two": "t uw"}))
    scores = {"long": random_scores(6, hmm, seed=0), "short": random_scores(5, hmm, seed=1)}
    found = align(hmm, {"short": ("two",), "long": ("two",)}, scores.__getitem__)
    assert dict(found.skipped) == {"short": "5 frames, its words need 6"}
    assert found.states["long"].tolist() == [3, 4, 5, 6, 7, 8]
    assert found.summary == "1 utterances aligned, 1 skipped: short (5 frames, its words need 6)"
    features = {name: torch.randn(len(one), 2) for name, one in scores.items()}
    *_, trained = flat_start(hmm, features, {"short": ("two",), "long": ("two",)}, num_iterations=2)
    assert list(trained.skipped) == ["short"]
    with pytest.raises(DataError, match="no utterance can be aligned: short: 5 frames"):
        align(hmm, {"short": ("two",)}, scores.__getitem__)
    with pytest.raises(DataError, match="no utterance is long enough"):
        flat_start(hmm, features, {"short": ("two",)})


def test_an_utterance_without_words_is_silence() -> None:
    hmm = HMM.new(Lexicon.of_words(["a"]), states_of_silence=2)
    found = align(hmm, {"u": ()}, {"u": torch.zeros(5, 10)}.__getitem__)
    assert set(found.states["u"].tolist()) == {0, 1}


def test_equal_shares_leave_silence_out_where_it_has_no_room() -> None:
    hmm = HMM.new(Lexicon.of_words(["a"]), states_of_word=2, states_of_silence=1)
    assert equal_shares(hmm, ("a",), 3).tolist() == [1, 1, 2]
    assert equal_shares(hmm, (), 2).tolist() == [0, 0]


def test_flat_start_raises_the_likelihood_every_round() -> None:
    hmm = HMM.new(Lexicon.of_words(["a", "b"]), states_of_word=3, states_of_silence=1)
    generator = torch.Generator().manual_seed(0)
    words = {f"u{number}": ("a",) if number % 2 else ("b",) for number in range(10)}
    features = {name: torch.randn(20, 3, generator=generator).cumsum(0) for name in words}
    seen: list[float] = []
    flat_start(hmm, features, words, num_iterations=6, progress=lambda _, one: seen.append(one.log_likelihood))
    assert len(seen) == 6
    assert all(after >= before - 0.02 for before, after in itertools.pairwise(seen))
    with pytest.raises(UsageError, match="num_iterations is 0"):
        flat_start(hmm, features, words, num_iterations=0)


def test_dividing_by_the_prior_is_not_the_same_as_not_dividing() -> None:
    """A network that has learned how frequent silence is hears too much of it, until the prior is taken out."""
    lexicon = Lexicon.of_words(["a"])
    priors = torch.tensor([0.9, 0.1], dtype=torch.float64)
    hmm = HMM(lexicon, {"sil": 1, "a": 1}, torch.tensor([0.5, 0.5], dtype=torch.float64), priors)
    likelihoods = torch.tensor([[4.0, 1.0], [1.0, 4.0], [4.0, 1.0]])  # p(x | s): the word is in the middle
    logits = (likelihoods * priors).log().float()
    decoder = Decoder(hmm, Grammar.loop(["a"]), search="viterbi")
    assert decoder(acoustic_scores(logits, hmm.log_priors)).segments == (("a", 1, 2),)
    assert decoder(torch.log_softmax(logits, -1)).words == ()
    expected = torch.log_softmax(logits.double(), -1) - priors.log()
    assert torch.allclose(acoustic_scores(logits, hmm.log_priors).double(), expected, atol=1e-6)
    with pytest.raises(UsageError, match=r"2 states, log_priors have shape \(1,\)"):
        acoustic_scores(logits, hmm.log_priors[:1])


@pytest.mark.parametrize("search", SEARCHES)
def test_a_recording_that_is_too_short_has_no_words(search: str) -> None:
    hmm = HMM.new(digits_lexicon())
    decoder = Decoder(hmm, Grammar.one_of(["two"]), search=search, silence_probability=0)
    for frames in (0, 5):
        path = decoder(random_scores(frames, hmm, seed=0))
        assert (path.words, path.score, len(path.states)) == ((), -math.inf, 0)
    assert decoder(random_scores(6, hmm, seed=0)).words == ("two",)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_decoder_refuses_damaged_scores(search: str) -> None:
    hmm = HMM.new(digits_lexicon())
    decoder = Decoder(hmm, Grammar.loop(["one", "two"]), search=search)
    with pytest.raises(UsageError, match="contain NaN"):
        decoder(torch.full((9, len(hmm.state_names)), math.nan))
    with pytest.raises(UsageError, match=r"should be \(frames, 60 states\), found \(9, 59\)"):
        decoder(torch.zeros(9, 59))


@pytest.mark.parametrize("search", SEARCHES)
def test_words_cost_a_penalty(search: str) -> None:
    hmm = random_hmm(digits_lexicon(), seed=0, states=2)
    scores = random_scores(200, hmm, seed=1, spread=1.0)
    counts = [
        len(Decoder(hmm, Grammar.loop(ENGLISH_DIGITS), word_penalty=one, search=search)(scores).words)
        for one in (-5.0, 0.0, 5.0, 500.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]
    assert counts[3] == 0  # silence alone is cheaper


@pytest.mark.parametrize("beam", [8.0, 1e4])
def test_the_two_searches_agree_on_a_long_recording(beam: float) -> None:
    hmm = random_hmm(digits_lexicon(), seed=0, states=3, silence_states=3)
    grammar = Grammar.ngram([("one", "two"), ("two", "three", "one"), ("nine",)], order=2)
    said = [hmm.states_of(way.units) for w in ("two", "three", "one") for way in hmm.lexicon.pronunciations(w)]
    states = torch.tensor([state for part in said for state in part]).repeat_interleave(5)
    scores = random_scores(len(states), hmm, seed=2, spread=0.3)
    scores[torch.arange(len(states)), states] += 6
    found = [Decoder(hmm, grammar, search=search, beam=beam)(scores) for search in SEARCHES]
    assert found[0].words == found[1].words == ("two", "three", "one")
    assert found[0].segments == found[1].segments
    assert torch.equal(found[0].states, found[1].states)


def test_without_kaldi_the_built_in_search_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    hmm = HMM.new(digits_lexicon())
    assert Decoder(hmm, Grammar.loop(["one"])).search == "kaldi"
    monkeypatch.setattr(wfst, "is_available", lambda: False)
    assert Decoder(hmm, Grammar.loop(["one"])).search == "viterbi"
    with pytest.raises(UsageError, match="unknown search 'beam'"):
        Decoder(hmm, Grammar.loop(["one"]), search="beam")
    with pytest.raises(UsageError, match="acoustic_scale is 0"):
        Decoder(hmm, Grammar.loop(["one"]), acoustic_scale=0)


def test_a_vocabulary_too_large_for_the_table_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_ARCS", 20_000)
    lexicon = Lexicon.of_phones({f"w{number}": "a b c d" for number in range(60)})
    with pytest.raises(UsageError, match=r"graph of 60 words has .*pip install 'instar\[speech\]'"):
        Decoder(HMM.new(lexicon), Grammar.loop(lexicon.words), search="viterbi")


def test_tuning_takes_what_makes_the_fewest_errors() -> None:
    hmm = random_hmm(digits_lexicon(), seed=0, states=2)
    states = torch.tensor(hmm.states_of(digits_lexicon().pronunciations("one")[0].units)).repeat_interleave(4)
    scores = random_scores(len(states), hmm, seed=1, spread=0.3)
    scores[torch.arange(len(states)), states] += 6
    grammar = Grammar.loop(["one", "two"])
    options = {"acoustic_scales": (0.01, 1.0), "search": "viterbi"}
    found = tune_decoder(hmm, grammar, {"u": scores}, {"u": ("one",)}, word_penalties=(500.0, 0.0, 5.0), **options)
    assert found.acoustic_scale == 1.0
    tried = try_decoders(hmm, grammar, {"u": scores}, {"u": ("one",)}, word_penalties=(500.0, 0.0, 5.0), **options)
    assert [one.errors for one in tried] == sorted(one.errors for one in tried)
    assert tried[0].decoder.settings == found.settings
    assert len(tried) == 2 * 3
    assert found.word_penalty == 0.0
    assert found(scores).words == ("one",)


def test_word_errors_are_counted_by_kind_and_by_word() -> None:
    said = {"a": ("one", "two", "six"), "b": ("six",), "c": ()}
    found = word_errors(said, {"a": ("one", "two", "two", "nine"), "b": (), "c": ("one",)})
    assert found.total == (1, 2, 1, 4)
    assert found.wer == 1.0
    assert found.confusion[NOTHING, "one"] == 1
    assert found.confusion["six", NOTHING] == 1
    assert found.confusion["one", "one"] == 1
    with pytest.raises(UsageError, match="'z' has recognised words but no reference"):
        word_errors(said, {"z": ("one",)})
    with pytest.raises(UsageError, match="the reference has no words"):
        word_errors({"c": ()}, {"c": ("one",)})


def test_intervals_are_over_recordings() -> None:
    said = {str(number): ("one",) * (1 + number % 3) for number in range(60)}
    good = word_errors(said, {name: words if int(name) % 10 else () for name, words in said.items()})
    bad = word_errors(said, {name: words if int(name) % 2 else () for name, words in said.items()})
    interval = good.interval(seed=1)
    assert interval.low < good.wer == interval.mean < interval.high
    assert interval.n == 60
    difference = wer_difference(bad, good, seed=1)
    assert difference.mean == pytest.approx(bad.wer - good.wer)
    assert 0 < difference.low < difference.mean < difference.high
    with pytest.raises(UsageError, match="for different recordings"):
        wer_difference(good, word_errors({"0": ("one",)}, {}))
    with pytest.raises(UsageError, match="num_resamples is 0"):
        good.interval(num_resamples=0)
