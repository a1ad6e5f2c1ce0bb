"""Lexicons in the dialects that speech people have: read, or refused by line."""

import math
import warnings
from pathlib import Path

import pytest

from instar.errors import DataError, DataWarning, UsageError
from instar.speech.decoding import Decoder
from instar.speech.grammar import Grammar
from instar.speech.lexicon import ENGLISH_DIGITS, Lexicon, lexicon_named
from speech_models import random_hmm, random_scores


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_kaldi_lexicon_has_several_ways_and_names_the_silence(tmp_path: Path) -> None:
    path = written(
        tmp_path / "lexicon.txt", "!SIL SIL\nzero Z IH R OW\nzero  Z IY R OW\n\ntwo\tT UW\nzero Z IH R OW\n"
    )
    lexicon = Lexicon.read(path)
    assert lexicon.silence == "SIL"
    assert [way.units for way in lexicon.pronunciations("zero")] == [
        ("Z", "IH", "R", "OW"),
        ("Z", "IY", "R", "OW"),
    ]
    assert lexicon.units == ("SIL", "IH", "IY", "OW", "R", "T", "UW", "Z")
    assert Lexicon.from_json(lexicon.to_json()) == lexicon
    assert list(lexicon.of(["two"]).words) == ["two"]


DIALECTS = {
    "lexicon.txt": "no n ow\nyes y eh s\nno n aa\n",
    "lexiconp.txt": "no 0.5 n ow\nyes 1.0 y eh s\nno 0.25 n aa\n",
    "lexiconp_silprob.txt": "no 0.5 0.16 0.08 1.0 n ow\nyes 1 0.2 1.1 0.9 y eh s\nno .25 0.2 1.1 0.9 n aa\n",
    "lexiconp_disambig.txt": "no 0.5 n ow #1\nyes 1.0 y eh s\nno 0.25 n aa #2\n",
    "mfa.dict": "no\t0.5\tn ow\nyes\t1.0\ty eh s\nno\t0.25\tn aa\n",
    "mfa-silence.dict": "no\t0.5\t0.16\t0.08\t1.0\tn ow\nyes\ty eh s\nno\t2.5e-1\t0.2\t1.1\t0.9\tn aa\n",
    "cmudict": ";;; the dictionary\n# a comment\n##another\nno  n ow\nno(2)  n aa # rare, of two\nyes  y eh s\n",
    "windows.txt": "\ufeffno n ow\r\nyes y eh s\r\nno n aa\r\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_is_the_same_lexicon(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        lexicon = Lexicon.read(written(tmp_path / name, DIALECTS[name]))
    assert {word: [way.units for way in ways] for word, ways in lexicon.words.items()} == {
        "no": [("n", "ow"), ("n", "aa")],
        "yes": [("y", "eh", "s")],
    }
    has_probabilities = "0.5" in DIALECTS[name]
    log_probs = [way.log_prob for way in lexicon.pronunciations("no")]
    assert log_probs == ([math.log(0.5), math.log(0.25)] if has_probabilities else [0, 0])
    has_silences = "0.16" in DIALECTS[name]
    assert [one.category for one in warned] == [DataWarning] * has_silences
    if has_silences:
        assert "silence around words" in str(warned[0].message)


def test_the_decoder_weighs_pronunciations(tmp_path: Path) -> None:
    path = written(tmp_path / "lexiconp.txt", "a 0.125 x\nb 1.0 x\n")
    lexicon = Lexicon.read(path)
    hmm = random_hmm(lexicon, seed=0, states=2)
    scores = random_scores(9, hmm, seed=0)
    found = {word: Decoder(hmm, Grammar.one_of([word]), search="viterbi")(scores).score for word in lexicon.words}
    assert found["b"] - found["a"] == pytest.approx(math.log(8))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lexicon.txt", "one w ah n\ntwo\n", "line 2: expected WORD PHONE ..., found 'two'"),
        ("lexicon.txt", "one 0.5\n", "line 1: expected WORD PHONE ..., found 'one 0.5'"),
        ("lexicon.txt", "one # w ah n\n", "line 1: expected WORD PHONE ..., found 'one # w ah n'"),
        ("lexiconp.txt", "one w ah n\n", "line 1: expected WORD PROBABILITY PHONE ..., found"),
        ("lexiconp.txt", "one 1.5 w\n", "line 1: expected a probability above 0 and at most 1, found 'one 1.5 w'"),
        ("lexiconp.txt", "one 0 w\n", "line 1: expected a probability above 0 and at most 1, found"),
        ("lexicon.txt", "one 0.5 0.2 w\n", "line 1: expected no number, one or four before the phones, found"),
        (
            "mfa.dict",
            "ma\tm a\nma\tm a 3\n",
            "line 2: expected phones that are no numbers (rename such phones), found",
        ),
        ("mfa.dict", "ice cream\tay s k r iy m\n", "line 1: expected a word without spaces before the tab, found"),
        ("lexicon.txt", "one w\u00a0ah\n", "line 1: the white space U+00A0 parts words for some programs"),
        ("lexicon.txt", "one w\u2028two t\n", "line 1: the white space U+2028 parts words"),
        ("lexicon.txt", "", "has no word"),
        ("lexicon.txt", ";;; nothing\n", "has no word"),
        ("lexicon.txt", "a SIL b\nsil SIL\n", "pronunciation of 'a' contains the silence unit 'SIL'"),
        ("lexicon.txt", "!SIL SIL\n<sil> sil\na b\n", "several silence units: SIL, sil"),
    ],
)
def test_a_damaged_lexicon_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        Lexicon.read(written(tmp_path / name, text))
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_lexicon_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_bytes("éa e a\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 1: not UTF-8 text"):
        Lexicon.read(tmp_path / "lexicon.txt")
    with pytest.raises(DataError, match="cannot be read"):
        Lexicon.read(tmp_path / "none.txt")
    with pytest.raises(UsageError, match=r"should be digits, words \(whole-word models\) or a lexicon.txt"):
        lexicon_named("nothing", [])


def test_lexicons_by_name() -> None:
    assert set(lexicon_named("digits", []).words) == set(ENGLISH_DIGITS)
    assert lexicon_named("words", ["b", "a", "b"]).units == ("sil", "a", "b")
