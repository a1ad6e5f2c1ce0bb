"""`instar speech`: train a recogniser, distil it, decode and align recordings with it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instar.cli.options import (
    ConfigFile,
    Device,
    Engine,
    Json,
    Quiet,
    RunDir,
    carry_out,
    names,
    numbers,
    set_values,
)
from instar.errors import DataError, UsageError

if TYPE_CHECKING:
    from instar.speech.audio import Recording
    from instar.speech.recogniser import Recogniser, Recognition

app = typer.Typer(help="Train a speech recogniser, distil it, decode and align recordings.", no_args_is_help=False)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of a trained recogniser.")]
Search = Annotated[str, typer.Option(help="auto, kaldi (its decoder) or viterbi (the built-in one).")]


@app.callback(invoke_without_command=True)
def speech(context: typer.Context, quiet: Quiet = False) -> None:
    """Train a speech recogniser, distil it, decode and align recordings.

    With no command: a small recogniser of spoken digits, in about a minute.
    """
    if context.invoked_subcommand is None:
        from instar.recipes.speech.plan import QUICK

        _train(QUICK, None, "cpu", "local", None, False, quiet)
    elif quiet:
        raise UsageError("--quiet is for training and goes after the command: instar speech train ... --quiet")


@app.command()
def train(
    data: str = typer.Argument(None, help="fsdd (spoken digits) or a Kaldi data directory. Default: fsdd."),
    test: str = typer.Option(None, help="Data directory to test on. Default: a tenth of the speakers."),
    validation: str = typer.Option(None, help="Data directory that settings are chosen on. Default: the same."),
    test_speakers: str = typer.Option(None, help="Speakers to test on: ann,bob."),
    validation_speakers: str = typer.Option(None, help="Speakers that settings are chosen on."),
    lexicon: str = typer.Option(
        None,
        help="digits, words (a model for each) or a Kaldi lexicon.txt. Default: digits for fsdd, else the "
        "directory's lexicon.txt, or words.",
    ),
    grammar: str = typer.Option(None, help="loop (any words), one (a single word) or ngram:N. Default: loop."),
    network: str = typer.Option(None, help="mlp:512x4, python:MODULE:FUNCTION. Default: mlp:256x2."),
    epochs: int = typer.Option(None, help="Of each network."),
    learning_rate: float = typer.Option(None, help="Of each network."),
    normalisation: str = typer.Option(None, help="Of features: speaker, global or none. Default: speaker."),
    context: str = typer.Option(None, help="Frames before and after the one that is told. Default: 20,5."),
    teacher: Path = typer.Option(None, metavar="RUN", help="Distil this recogniser into the network."),
    temperature: float = typer.Option(None, help="Of the teacher's soft targets. Default: 2."),
    fraction: float = typer.Option(None, help="Of the recordings that are used."),
    seed: int = typer.Option(None, help="Initialisation and order."),
    config: ConfigFile = None,
    set_: list[str] = typer.Option([], "--set", help="Any other setting: --set network.dropout=0.3"),
    device: Device = "cpu",
    engine: Engine = "local",
    run_dir: RunDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recogniser from recordings and their words; with --teacher distil one that is there."""
    frames = [int(one) for one in numbers("--context", context) or []]
    if context is not None and len(frames) != 2:
        raise UsageError(f"--context {context!r} should be two numbers of frames: 20,5")
    left, right = frames or (None, None)
    typed: dict[str, Any] = {
        "data": {
            "name": _corpus(data),
            "test": _corpus(test),
            "validation": _corpus(validation),
            "test_speakers": names("--test-speakers", test_speakers),
            "validation_speakers": names("--validation-speakers", validation_speakers),
            "fraction": fraction,
        },
        "models": {"lexicon": lexicon or _lexicon_of(data, config)},
        "grammar": grammar,
        "network": {
            "network": network,
            "epochs": epochs,
            "learning_rate": learning_rate,
        },
        "features": {"normalisation": normalisation, "left": left, "right": right},
        "teacher": None if teacher is None else str(teacher),
        "temperature": temperature,
        "seed": seed,
    }
    _train(set_values(typed, set_), config, device, engine, run_dir, as_json, quiet)


def _train(
    typed: dict[str, Any],
    config: Path | None,
    device: str,
    engine: str,
    run_dir: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    from instar.recipes.speech.plan import read_config
    from instar.recipes.speech.recogniser import STUDY

    path = carry_out(
        STUDY,
        read_config(typed, config),
        STUDY.table,
        STUDY.answer,
        run_dir=run_dir,
        device=device,
        engine=engine,
        as_json=as_json,
        quiet=quiet,
    )
    if not as_json:
        sys.stdout.write(f"Use it: instar speech decode {path} recording.wav\n")


def _corpus(name: str | None) -> str | None:
    """A folder is a Kaldi data directory."""
    if name is None or name == "fsdd" or name.startswith("kaldi:"):
        return name
    if not Path(name).is_dir():
        raise UsageError(
            f"{name!r} is no folder; it should be fsdd or a Kaldi data directory with wav.scp and text"
        )
    return f"kaldi:{name}"


def _lexicon_of(data: str | None, config: Path | None) -> str | None:
    if data is None or data == "fsdd" or config is not None:
        return None
    path = Path(data.removeprefix("kaldi:")) / "lexicon.txt"
    return str(path) if path.is_file() else "words"


@app.command()
def decode(
    run: RunArgument,
    files: list[Path] = typer.Argument(metavar="FILE...", help="wav or flac files of one speaker."),
    search: Search = "auto",
    times: bool = typer.Option(False, "--times", help="Say when each word begins and ends."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON and nothing else."),
) -> None:
    """The words of recordings. Those of one call are taken as one speaker's, in one place."""
    recogniser = _recogniser(run, search)
    recordings = [_recording(file, recogniser) for file in files]
    found = recogniser.recognise(recordings)
    shift = recogniser.features.shift_ms / 1000
    if as_json:
        lines = [_as_json(file, one, shift) for file, one in zip(files, found, strict=True)]
        sys.stdout.write(json.dumps(lines, indent=2) + "\n")
        return
    for file, one in zip(files, found, strict=True):
        sys.stdout.write(f"{file}  {' '.join(one.words)}\n")
        for word, begin, end in one.path.segments if times else ():
            sys.stdout.write(f"  {begin * shift:7.2f} {end * shift:7.2f}  {word}\n")
    seconds, audio = sum(one.seconds for one in found), sum(one.audio_seconds for one in found)
    sys.stderr.write(f"real-time factor {seconds / audio:.3f} ({audio:.1f} s of sound)\n")


def _as_json(file: Path, found: "Recognition", shift: float) -> dict[str, Any]:
    times = [[word, round(begin * shift, 3), round(end * shift, 3)] for word, begin, end in found.path.segments]
    return {
        "file": str(file),
        "words": list(found.words),
        "times": times,
        "audio_seconds": round(found.audio_seconds, 3),
        "real_time_factor": round(found.real_time_factor, 4),
    }


@app.command()
def align(
    run: RunArgument,
    source: Path = typer.Argument(metavar="DIR|FILE", help="A Kaldi data directory, or one wav or flac file."),
    words: str | None = typer.Option(None, help="What is said in the file: 'one two'."),
    out: Path = typer.Option(None, metavar="DIR", help="Where to write words.ctm and states.safetensors."),
) -> None:
    """When each word of a transcript is said: Kaldi's CTM lines on stdout, and the states of all frames in --out.

    An utterance that is too short for its words is skipped and named.
    """
    from instar.recipes.speech.alignment import align_directory, align_file, ctm_lines, write_alignment

    recogniser = _recogniser(run, "auto")
    if source.is_dir():
        if words is not None:
            raise UsageError("--words is for one file; a data directory has its words in `text`")
        alignment = align_directory(recogniser, source)
    elif words is None:
        raise UsageError(f"{source}: say what is said in it: --words 'one two'")
    else:
        alignment = align_file(recogniser, source.name, _recording(source, recogniser), tuple(words.split()))
    if out is not None:
        write_alignment(alignment, recogniser, out)
    sys.stdout.writelines(f"{line}\n" for line in ctm_lines(alignment, recogniser))
    sys.stderr.write(f"{alignment.summary}\n")


def _recogniser(run: Path, search: str) -> "Recogniser":
    from instar.recipes.speech.plan import FOLDER
    from instar.runs import Run
    from instar.speech.recogniser import Recogniser

    Run.read(run)  # says whether it is a run at all
    return Recogniser.load(run / FOLDER, search=search)


def _recording(path: Path, recogniser: "Recogniser") -> "Recording":
    """A file's recording; what is done to it beforehand is said once, on stderr."""
    from instar.speech.audio import read_audio

    recording = read_audio(path)
    shift = recogniser.features.shift_ms
    if len(recording.samples) / recording.sample_rate < shift / 2000:
        raise DataError(f"{path}: {len(recording.samples)} samples have no frame of {shift:g} ms")
    changes = []
    if recording.num_channels > 1:
        changes.append(f"the mean of its {recording.num_channels} channels is heard")
    if recording.sample_rate != recogniser.sample_rate:
        changes.append(f"resampled from {recording.sample_rate} to {recogniser.sample_rate} Hz")
    if changes:
        sys.stderr.write(f"instar: {path}: {'; '.join(changes)}\n")
    return recording
