"""Train a recogniser from recordings and words, or distil one that is there into a smaller network.

Alignment from a flat start, a network, alignment by that network, the network that is kept. With a teacher its
network aligns, and its soft targets teach; the same network is trained on the labels alone beside it. Scale of the
acoustic scores and word penalty are chosen on validation. Test is read once, at the end.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instar import metrics
from instar.evaluation import predict_logits
from instar.jobs import open_engine, run_jobs
from instar.recipes.fitting import load_run_network
from instar.recipes.speech.data import load_features, load_recordings, load_statistics
from instar.recipes.speech.jobs import aligned_frames
from instar.recipes.speech.plan import FOLDER, RECIPE, TEACHER, Plan, RecogniserConfig, grammar_order
from instar.runs import Run, run_hash
from instar.speech.audio import Recording
from instar.speech.decoding import Decoder, decode, tune_decoder
from instar.speech.frames import FrameDataset
from instar.speech.grammar import Grammar
from instar.speech.hmm import HMM, acoustic_scores
from instar.speech.recogniser import MODELS, Recogniser
from instar.speech.scoring import WordErrors, word_errors

MOST_TUNED = 150  # validation recordings that the decoder is tuned on
MOST_TIMED = 20


def run_path(config: RecogniserConfig, root: Path = Path("runs")) -> Path:
    """Where a run of this configuration lives: `runs/speech/DATA-NETWORK-HASH`."""
    plan = Plan(config, root)
    fingerprint = [load_recordings(config.data).fingerprint, str(plan.models.lexicon.to_json())]
    if plan.teacher is not None:
        fingerprint.append(plan.about_teacher["network_digest"])
    name = Path(config.data.name.rpartition(":")[2]).name
    hashed = run_hash(RECIPE, config.model_dump(), data_fingerprint=" ".join(fingerprint))
    return root / RECIPE / f"{name}-{Path(config.network.network.replace(':', '-')).name}-{hashed}"


def main(
    config: RecogniserConfig,
    path: Path,
    *,
    device: str = "cpu",
    engine: str = "local",
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a recogniser, or go on with it, or read what it came to; it lies in `path / "recogniser"`.

    Args:
        config: what to do.
        path: the run directory.
        device: where to compute; does not belong to the configuration.
        engine: of the jobs.
        quiet: show no progress.

    Returns:
        The content of `result.json`.
    """
    from instar.recipes.speech.page import write_recogniser_page

    plan = Plan(config, path, device)
    jobs = plan.jobs()
    with Run(path, recipe=RECIPE, config=config.model_dump()) as run:
        if run.is_done:
            return run.result()
        started = time.monotonic()
        with open_engine(engine) as workers:
            run_jobs(jobs, path, engine=workers, quiet=quiet).raise_if_failed()
        result = _result(plan)
        result["seconds"] = round(time.monotonic() - started, 1)
        write_recogniser_page(run, plan, result)
        run.finish(result)
        return run.result()


def grammar_of(name: str, hmm: HMM, transcripts: list[tuple[str, ...]]) -> Grammar:
    """The grammar of a name, over all words of the lexicon."""
    order = grammar_order(name)
    if order is None:
        return (Grammar.loop if name == "loop" else Grammar.one_of)(hmm.lexicon.words)
    return Grammar.ngram(transcripts, order=order)


def _result(plan: Plan) -> dict[str, Any]:
    """Tune on validation, read test, keep the recogniser."""
    config = plan.config
    alignment = plan.path / "jobs" / plan.alignment
    hmm, recordings = HMM.load(alignment / MODELS), load_recordings(config.data)
    grammar = grammar_of(config.grammar, hmm, [one.words for one in recordings.train.utterances])
    networks = {kind: load_run_network(plan.path / "jobs" / kind) for kind in plan.kinds}
    found: dict[str, tuple[Decoder, WordErrors]] = {}
    rows = []
    if plan.teacher is not None:
        networks[TEACHER] = plan.teacher.network
    test = aligned_frames(config.data, config.features, "test", alignment, hmm)
    for kind, network in networks.items():
        decoder = _tuned(plan, network, hmm, grammar)
        said = {one.id: one.words for one in recordings.test.utterances}
        errors = word_errors(said, decode(decoder, _scores(plan, network, hmm, "test", list(said))))
        found[kind] = decoder, errors
        logits, labels = predict_logits(network, test), test.labels(test.ids)
        rows.append(
            _row(kind, plan, network, decoder, errors) | {"frame_accuracy": 100 * metrics.accuracy(logits, labels)}
        )
    kept = plan.kinds[0]
    recogniser = Recogniser(
        networks[kept],
        config.network.network,
        found[kept][0],
        config.features.settings,
        load_statistics(config.data.model_dump_json(), config.features.settings),
        recordings.train.sample_rate,
        config.features.left,
        config.features.right,
    )
    recogniser.save(plan.path / FOLDER)
    errors = found[kept][1]
    return {
        "metrics": {
            "wer": rows[0]["wer"],
            "frame_accuracy": rows[0]["frame_accuracy"],
            "real_time_factor": _real_time_factor(recogniser, plan),
        },
        "rows": rows,
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
        "speakers": {part: list(getattr(recordings, part).speakers) for part in ("train", "validation", "test")},
    }


def _scores(plan: Plan, network: nn.Module, hmm: HMM, part: str, names: list[str]) -> dict[str, Tensor]:
    """Acoustic scores of some utterances of a part."""
    choice = plan.config.features
    features = load_features(plan.config.data, choice.settings, part)
    frames = FrameDataset(features, class_names=hmm.state_names, left=choice.left, right=choice.right)
    scores = acoustic_scores(predict_logits(network, frames.of_utterances(names)), hmm.log_priors)
    lengths = [features.places[name][1] - features.places[name][0] for name in names]
    return dict(zip(names, torch.split(scores, lengths), strict=True))


def _tuned(plan: Plan, network: nn.Module, hmm: HMM, grammar: Grammar) -> Decoder:
    """A decoder whose scale and penalty validation chooses; the recordings are spread over all there are."""
    config = plan.config
    said = {one.id: one.words for one in load_recordings(config.data).validation.utterances}
    names = list(said)
    names = names[:: -(-len(names) // MOST_TUNED)]
    return tune_decoder(
        hmm,
        grammar,
        _scores(plan, network, hmm, "validation", names),
        said,
        acoustic_scales=config.acoustic_scales,
        word_penalties=config.word_penalties,
    )


def _row(kind: str, plan: Plan, network: nn.Module, decoder: Decoder, errors: WordErrors) -> dict[str, Any]:
    interval, total = errors.interval(), errors.total
    name = plan.teacher.network_name if kind == TEACHER and plan.teacher else plan.config.network.network
    return {
        "name": kind,
        "network": name,
        "num_parameters": sum(one.numel() for one in network.parameters()),
        "wer": 100 * errors.wer,
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        **total._asdict(),
        "num_recordings": interval.n,
        "acoustic_scale": decoder.acoustic_scale,
        "word_penalty": decoder.word_penalty,
        "seed": plan.config.seed if kind != TEACHER else None,
        "n": 1,
    }


def _by_speaker(plan: Plan, errors: WordErrors) -> list[dict[str, Any]]:
    test = load_recordings(plan.config.data).test
    rows = []
    for speaker in test.speakers:
        own = [errors.of[one.id] for one in test.utterances if one.speaker == speaker]
        words = sum(one.num_words for one in own)
        if words:
            wrong = sum(one.errors for one in own)
            rows.append({"speaker": speaker, "recordings": len(own), "words": words, "wer": 100 * wrong / words})
    return rows


def _real_time_factor(recogniser: Recogniser, plan: Plan) -> float:
    """Seconds of work, features included, for each second of the longest test recordings."""
    test = load_recordings(plan.config.data).test
    features = load_features(plan.config.data, plan.config.features.settings, "test")
    lengths = dict(zip((one.id for one in features.utterances), features.lengths, strict=True))
    longest = sorted(test.utterances, key=lambda one: -lengths[one.id])[:MOST_TIMED]
    found = recogniser.recognise([Recording(test.audio(one), test.sample_rate, 1) for one in longest])
    return sum(one.seconds for one in found) / sum(one.audio_seconds for one in found)
