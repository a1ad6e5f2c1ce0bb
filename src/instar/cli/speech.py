"""`instar speech`: train a recogniser, distil it, decode and align recordings with it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instar.cli.commands import LazyCommand, with_options
from instar.cli.options import Quiet, RunOptions, numbers
from instar.cli.running import run_and_show
from instar.errors import DataError, UsageError

if TYPE_CHECKING:
    from instar.data.readers.audio import Recording
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

        _train(QUICK, RunOptions(quiet=quiet))
    elif quiet:
        raise UsageError("--quiet is for training and goes after the command: instar speech train ... --quiet")


@app.command(cls=LazyCommand)
@with_options("SPEECH")
def train(
    typed: dict[str, Any],
    run: RunOptions,
    data: Annotated[
        str | None,
        typer.Argument(help=r"fsdd (spoken digits) or a Kaldi data directory. [dim]\[default: fsdd][/dim]"),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="<int,int>",
            help=r"Frames before and after each frame. [dim]\[default: 20,5][/dim]",
            rich_help_panel="Features",
        ),
    ] = None,
) -> None:
    """Train a recogniser from recordings and their words; with --teacher distil one that is trained."""
    from instar.recipes.options import put

    if data is not None:
        put(typed, "data.name", data)
    if context is not None:
        for side, frames in zip(("left", "right"), _context(context), strict=True):
            put(typed, f"features.{side}", frames)
    _train(typed, run)


def _context(text: str) -> list[int]:
    frames = [int(number) for number in numbers("--context", text) or []]
    if len(frames) != 2:
        raise UsageError(f"--context {text!r} should be two numbers of frames: 20,5")
    return frames


def _train(typed: dict[str, Any], run: RunOptions) -> None:
    from instar.recipes.commands import SPEECH

    path = run_and_show(SPEECH.study, SPEECH.read_config(typed, run.config), run)
    if not run.as_json:
        sys.stdout.write(f"Use it: instar speech decode {path} recording.wav\n")


@app.command()
def decode(
    run: RunArgument,
    files: list[Path] = typer.Argument(metavar="FILE...", help="wav or flac files of one speaker."),
    search: Search = "auto",
    times: bool = typer.Option(False, "--times", help="Print when each word begins and ends."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON and nothing else."),
) -> None:
    """Recognise the words of recordings. All files of a call should be of one speaker and recording condition."""
    recogniser = _recogniser(run, search)
    recordings = [_recording(file, recogniser) for file in files]
    found = recogniser.recognise(recordings)
    shift = recogniser.features.shift_ms / 1000
    if as_json:
        lines = [_as_json(file, recognised, shift) for file, recognised in zip(files, found, strict=True)]
        sys.stdout.write(json.dumps(lines, indent=2) + "\n")
        return
    for file, recognised in zip(files, found, strict=True):
        sys.stdout.write(f"{file}  {' '.join(recognised.words)}\n")
        for word, begin, end in recognised.path.segments if times else ():
            sys.stdout.write(f"  {begin * shift:7.2f} {end * shift:7.2f}  {word}\n")
    seconds, audio = (sum(getattr(one, key) for one in found) for key in ("seconds", "audio_seconds"))
    sys.stderr.write(f"real-time factor {seconds / audio:.3f} ({audio:.1f} s of audio)\n")


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
    words: str | None = typer.Option(None, help="The transcript of the file: 'one two'."),
    out: Path = typer.Option(None, metavar="DIR", help="Where to write words.ctm and states.safetensors."),
) -> None:
    """Align recordings with their transcripts: times of the words as CTM lines, states of the frames in --out.

    An utterance that is too short for its words is skipped and named.
    """
    from instar.recipes.speech.alignment import align_directory, align_file, ctm_lines, write_alignment

    recogniser = _recogniser(run, "auto")
    if source.is_dir():
        if words is not None:
            raise UsageError("--words is for one file; a data directory has its words in `text`")
        alignment = align_directory(recogniser, source)
    elif words is None:
        raise UsageError(f"{source}: a file needs its transcript: --words 'one two'")
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

    Run.read(run)  # raises an error if it is no run directory
    return Recogniser.load(run / FOLDER, search=search)


def _recording(path: Path, recogniser: "Recogniser") -> "Recording":
    """Read a recording; prints on stderr if channels will be averaged or the sample rate converted."""
    from instar.data.readers.audio import read_audio

    recording = read_audio(path)
    shift = recogniser.features.shift_ms
    if len(recording.samples) / recording.sample_rate < shift / 2000:
        raise DataError(f"{path}: {len(recording.samples)} samples are too short for a frame of {shift:g} ms")
    changes = []
    if recording.num_channels > 1:
        changes.append(f"its {recording.num_channels} channels are averaged")
    if recording.sample_rate != recogniser.sample_rate:
        changes.append(f"resampled from {recording.sample_rate} to {recogniser.sample_rate} Hz")
    if changes:
        sys.stderr.write(f"instar: {path}: {'; '.join(changes)}\n")
    return recording
