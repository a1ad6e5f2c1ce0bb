"""`instar speech train`: train a recogniser from recordings and their words, or distil one into a smaller network.

Alignment from a flat start, a first network, alignment with that network, the final network. With a teacher its
network aligns and its soft targets teach; a network of the same size is trained on the labels alone as a control.
Validation chooses the scale of the acoustic scores and the word penalty. Test is read once, at the end.

`rows` have the word error rate, with its bootstrap interval over the test recordings, and `details`:

- `by_speaker`: `recordings`, `words` and `wer` of each test speaker.
- `confusions`: how many `times` a word that was `said` was `heard` as another one; empty for none.
- `skipped`: utterances that could not be aligned, with the reason.
- `curves`: the metrics of each tested network after each epoch.
- `num_states`, `num_words`: of the HMM and of its lexicon. `speakers`: of each part.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from torch import nn

from instar.data.readers.audio import Recording
from instar.evaluation import predict_logits
from instar.jobs import JobReport
from instar.recipes import rows
from instar.recipes.learning import about_failures
from instar.recipes.loading import load_run_network
from instar.recipes.rows import Measure
from instar.recipes.speech.data import (
    ALIGNED,
    MODELS,
    load_features,
    load_frames,
    load_recordings,
    load_statistics,
)
from instar.recipes.speech.page import answer, page, result_table
from instar.recipes.speech.plan import FOLDER, TEACHER, Plan, RecogniserConfig, grammar_order
from instar.recipes.speech.scoring import Score, score, scores_by_utterance
from instar.recipes.study import Execution, Place, Round, Rounds, Study
from instar.runs import Run
from instar.speech.corpus import transcripts_of
from instar.speech.decoding import Decoder, TriedDecoder, try_decoders
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM
from instar.speech.recogniser import Recogniser
from instar.speech.scoring import WordErrors

WER = Measure("wer", "word error rate", "%", "lower")
MOST_TUNED = 150  # validation recordings for tuning the decoder
MOST_TIMED = 20


def place(config: RecogniserConfig) -> Place:
    """Where a run of this configuration lives: `runs/speech/DATA-NETWORK-HASH`."""
    data = Path(config.data.name.rpartition(":")[2]).name
    network = Path(config.network.network.replace(":", "-")).name
    return Place("speech", f"{data}-{network}", Plan(config, Path()).contents)


def grammar_of(name: str, hmm: HMM, transcripts: list[tuple[str, ...]]) -> Grammar:
    """The grammar with a name, over all words of the lexicon."""
    order = grammar_order(name)
    if order is None:
        return (Grammar.loop if name == "loop" else Grammar.one_of)(hmm.lexicon.words)
    return Grammar.ngram(transcripts, order=order)


def _plan(config: RecogniserConfig, path: Path, execution: Execution) -> Plan:
    return Plan(config, path, execution.device)


def _rounds(plan: Plan) -> Rounds[JobReport]:
    return (yield Round(plan.jobs()))


def _measure(plan: Plan, _: JobReport) -> dict[str, Any]:
    """Tune the decoders on validation, read the test recordings, save the recogniser."""
    recordings, alignment = load_recordings(plan.source), plan.path / "jobs" / plan.alignment
    hmm = HMM.load(alignment / MODELS)
    grammar = grammar_of(
        plan.config.grammar, hmm, [utterance.words for utterance in recordings["train"].utterances]
    )
    test = load_frames(plan.source, "test", alignment, all_utterances=True)
    kinds = plan.kinds if plan.teacher is None else [*plan.kinds, TEACHER]
    networks = {kind: load_run_network(plan.path / "jobs" / kind) for kind in kinds}
    tried = {kind: _try_decoders(plan, network, hmm, grammar, alignment) for kind, network in networks.items()}
    decoders = {kind: several[0].decoder for kind, several in tried.items()}
    scores = {kind: score([network], test, decoders[kind]) for kind, network in networks.items()}
    found = [_row(kind, plan, networks[kind], decoders[kind], scores[kind]) for kind in kinds]
    recogniser = _recogniser(plan, networks[kinds[0]], decoders[kinds[0]])
    recogniser.save(plan.path / FOLDER)
    errors = scores[kinds[0]].words
    return {
        "measure": WER._asdict(),
        "metrics": {
            "wer": found[0]["mean"],
            "frame_accuracy": found[0]["frame_accuracy"],
            "real_time_factor": _real_time_factor(recogniser, plan),
        },
        "rows": found,
        "differences": [],
        "tuning": [_tuning_row(kind, one) for kind in kinds for one in tried[kind]],
        "details": {
            "by_speaker": _by_speaker(plan, errors),
            "confusions": [
                {"said": said, "heard": heard, "times": times}
                for (said, heard), times in Counter(errors.confusion).most_common()
                if said != heard
            ],
            "skipped": Run.read(alignment).result()["rows"],
            "curves": [
                {"network": kind, **line}
                for kind in plan.kinds
                for line in Run.read(plan.path / "jobs" / kind).metrics()
            ],
            "num_states": len(hmm.state_names),
            "num_words": len(hmm.lexicon.words),
            "speakers": {part: list(recordings[part].speakers) for part in ALIGNED},
        },
        "num_test": len(errors.of),
        "seeds": [plan.config.seed],
    }


def _try_decoders(
    plan: Plan, network: nn.Module, hmm: HMM, grammar: Grammar, alignment: Path
) -> list[TriedDecoder]:
    """Decoders of all scales and penalties, the best on validation first; its recordings are sampled evenly."""
    frames = load_frames(plan.source, "validation", alignment, all_utterances=True)
    said = transcripts_of(frames.utterances)
    frames = frames.of_utterances(list(said)[:: -(-len(said) // MOST_TUNED)])
    scores = scores_by_utterance(frames, predict_logits(network, frames), hmm)
    candidates = plan.config.model_dump(include={"acoustic_scales", "word_penalties"})
    return try_decoders(hmm, grammar, scores, said, **candidates)


def _tuning_row(kind: str, tried: TriedDecoder) -> dict[str, Any]:
    scale, penalty = tried.decoder.acoustic_scale, tried.decoder.word_penalty
    settings = {"acoustic_scale": scale, "word_penalty": penalty}
    return {"name": kind, **settings, "validation_errors": tried.errors, "sd": None, "n": 1}


def _row(kind: str, plan: Plan, network: nn.Module, decoder: Decoder, scored: Score) -> dict[str, Any]:
    interval = scored.words.interval()
    return rows.row(
        kind,
        [100 * scored.words.wer],
        network=plan.teacher.network_name if kind == TEACHER and plan.teacher else plan.config.network.network,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        bootstrap_low=100 * interval.low,
        bootstrap_high=100 * interval.high,
        **scored.words.total._asdict(),
        num_recordings=interval.n,
        frame_accuracy=scored.frame_accuracy,
        acoustic_scale=decoder.acoustic_scale,
        word_penalty=decoder.word_penalty,
        **about_failures([plan.path / "jobs" / kind]),
    )


def _recogniser(plan: Plan, network: nn.Module, decoder: Decoder) -> Recogniser:
    config = plan.config
    return Recogniser(
        network,
        config.network.network,
        decoder,
        config.features.features,
        load_statistics(plan.source),
        load_recordings(plan.source).sample_rate,
        config.features.left,
        config.features.right,
    )


def _by_speaker(plan: Plan, errors: WordErrors) -> list[dict[str, Any]]:
    test = load_recordings(plan.source)["test"]
    by_speaker = []
    for speaker in test.speakers:
        own = [errors.of[utterance.id] for utterance in test.utterances if utterance.speaker == speaker]
        words = sum(counts.num_words for counts in own)
        if words:
            wer = 100 * sum(counts.errors for counts in own) / words
            by_speaker.append({"speaker": speaker, "recordings": len(own), "words": words, "wer": wer})
    return by_speaker


def _real_time_factor(recogniser: Recogniser, plan: Plan) -> float:
    """Computing time, features included, over the duration of the longest test recordings."""
    test, features = load_recordings(plan.source)["test"], load_features(plan.source, "test")
    longest = sorted(test.utterances, key=lambda utterance: -len(features.of(utterance)))[:MOST_TIMED]
    recordings = [Recording(test.corpus.audio(utterance), test.corpus.sample_rate, 1) for utterance in longest]
    found = recogniser.recognise(recordings)
    return sum(one.seconds for one in found) / sum(one.audio_seconds for one in found)


STUDY = Study(
    recipe="speech",
    place=place,
    plan=_plan,
    check=lambda plan: plan.check(),
    rounds=_rounds,
    num_rounds=lambda plan: 1,
    measure=_measure,
    page=page,
    answer=answer,
    table=result_table,
    published=lambda config: f"speech-{place(config).name}",
)
"""`instar speech train`."""
