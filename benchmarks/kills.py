"""`kill -9` of every command at random moments, each time started again: the same bits as undisturbed.

Killed is the command itself, one of its workers, or the server that workers are forked from. What comes out is
compared with an undisturbed run file by file: weights and stores byte by byte, results without their times.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.timing import RESULTS, ROOT, provenance
from instar.files import write_bytes

FOLDER = ROOT / "runs" / "kills"
KILLS, KILLS_OF_A_RUN = 210, 8
VICTIMS = {"command": 8, "worker": 10, "server": 2}
"""Who is killed, and how often; the command where none of the others lives."""
WAIT_FOR_WORKER = 0.8
"""the share of starts whose first kill waits for a worker"""
SECONDS_TO_END = 60.0
"""for what a killed command leaves behind; what lives longer is an orphan"""
SECONDS = "seconds"
"""the file with the seconds of an undisturbed run"""
ONLY_NAMED = ("log.txt", "DONE", "report.html", "environment.json")
"""Files that hold times: they have to be there."""

_golden: dict[str, Any] = runpy.run_path(str(ROOT / "tests" / "golden" / "experiments.py"))
_without_times: Callable[[Any], Any] = _golden["without_times"]
COMMANDS: dict[str, tuple[str, ...]] = {
    name: (*words, "--run-dir", "run", "--quiet")
    for name, words in _golden["COMMANDS"].items()
    if name not in _golden["NEED_DATA"] or "INSTAR_DATA" in os.environ
}
COMMANDS["distill-rates"] = (
    *("distill", "--teacher", "mlp:32x1", "--student", "mlp:8x1", "--teacher-epochs", "8", "--epochs", "8"),
    *("--temperature", "4", "--seeds", "2", "--run-dir", "run", "--quiet"),
)
COMMANDS["targets"] = (
    *("targets", "write", "--teacher", f"{FOLDER}/distill/undisturbed/run:teacher", "--out", "run", "--quiet"),
    *("--views", "jitter:1", "--num-views", "40", "--rows-per-shard", "500"),
)
"""The tiny experiments of the golden values, one that looks for rates, and a store; each writes into `run`."""


class Kill(NamedTuple):
    """Who was killed, how many seconds after the start or the kill before."""

    victim: str
    seconds: float


def main() -> None:
    """Kill, compare, and write `results/kills.json`. Interrupted and begun again, it goes on where it was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--kills", type=int, default=KILLS, help="at least, of all commands together")
    parser.add_argument("--seed", type=int, default=0, help="of who is killed and when")
    asked = parser.parse_args()
    for number in itertools.count():
        if counts_of(asked.commands, asked.seed)[-1]["kills"] >= asked.kills:
            break
        for name in asked.commands:
            record = FOLDER / name / f"{asked.seed}-{number}.json"
            if not record.exists():
                found = killed_run(name, record.with_suffix(""), random.Random(f"{name} {record.stem}"))
                write_bytes(record, json.dumps(found).encode())
                print(name, record.read_text(), flush=True)
    write_result(asked.commands, asked.seed)


def killed_run(name: str, folder: Path, chance: random.Random) -> dict[str, Any]:
    """Kill a command some times, start it again until it ends, and compare.

    Returns:
        `kills`; `starts`; `orphans`, processes that outlived their command; `differences`, the files that differ.
    """
    undisturbed = FOLDER / name / "undisturbed"
    seconds = undisturbed_run(name, undisturbed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kills: list[Kill] = []
    starts, orphans, ended = 0, 0, False
    while not ended:
        starts, began = starts + 1, time.monotonic()
        process = start(name, folder)
        kills += kill_at_random(process, seconds, KILLS_OF_A_RUN - len(kills), chance)
        ended = process.wait() == 0
        if ended and len(kills) < KILLS_OF_A_RUN:  # on a machine that is less busy than it was
            (undisturbed / SECONDS).write_text(str(min(seconds, time.monotonic() - began)))
        orphans += end_of_session(process.pid)
        if not ended and starts > 2 * KILLS_OF_A_RUN:
            raise RuntimeError(f"{name} fails though nothing kills it: {(folder / 'stderr').read_text()}")
    found = differences(undisturbed / "run", folder / "run")
    if not found:
        shutil.rmtree(folder)
    return {"kills": kills, "starts": starts, "orphans": orphans, "differences": found}


def undisturbed_run(name: str, folder: Path) -> float:
    """Run a command without kills, once; the seconds that it took after it had made its run directory."""
    took = folder / SECONDS
    if not took.exists():
        if name == "targets":
            undisturbed_run("distill", FOLDER / "distill" / "undisturbed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        process = start(name, folder)
        while process.poll() is None and not (folder / "run").exists():
            time.sleep(0.02)
        began = time.monotonic()
        if process.wait():
            raise RuntimeError(f"{name}: {(folder / 'stderr').read_text()}")
        took.write_text(str(time.monotonic() - began))
    return float(took.read_text())


def start(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a command in a folder, in a session of its own, so that its processes can be found."""
    with open(folder / "stderr", "ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "instar", *COMMANDS[name]],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def kill_at_random(
    process: "subprocess.Popen[bytes]", seconds: float, most: int, chance: random.Random
) -> list[Kill]:
    """Kill processes of a command at random moments, until the command is killed or ends.

    A moment lies up to a third of the undisturbed seconds after the kill before. The first lies so long after the
    start, or for most after the first worker: a command that starts again spends most of its seconds on imports.
    """
    kills: list[Kill] = []
    if chance.random() < WAIT_FOR_WORKER:
        while process.poll() is None and not _found(process.pid)["worker"]:
            time.sleep(0.02)
    while len(kills) < most:
        moment = chance.uniform(0, seconds / 3)
        (wanted,) = chance.choices(list(VICTIMS), list(VICTIMS.values()))
        try:
            process.wait(moment)
            break
        except subprocess.TimeoutExpired:
            found = _found(process.pid)
            victim = wanted if found[wanted] else "command"
            try:
                os.kill(chance.choice(found[victim]), signal.SIGKILL)
            except ProcessLookupError:  # it has just ended
                continue
            kills.append(Kill(victim, round(moment, 3)))
            if victim == "command":
                break
    return kills


def _found(command: int) -> dict[str, list[int]]:
    """The processes that may be killed: a command starts a server, and the server is forked into workers."""
    parents = living(command)
    servers = [number for number in parents if b"forkserver" in _cmdline(number) and parents[number] == command]
    workers = sorted(number for number in parents if parents[number] in servers)
    return {"command": [command], "server": servers, "worker": workers}


def end_of_session(session: int) -> int:
    """Wait until all processes of a session have ended; how many had to be killed."""
    deadline = time.monotonic() + SECONDS_TO_END
    while (left := living(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for number in left:
        os.kill(number, signal.SIGKILL)
    return len(left)


def living(session: int) -> dict[int, int]:
    """The living processes of a session, each with its parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found[int(folder.name)] = int(parent)
    return found


def _cmdline(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


def differences(one: Path, other: Path) -> list[str]:
    """The files below two folders that one of them lacks, or whose content differs."""
    files = [{file.relative_to(path) for file in path.rglob("*") if file.is_file()} for path in (one, other)]
    differ = [f"{file}: only in one" for file in sorted(files[0] ^ files[1])]
    for file in sorted(files[0] & files[1]):
        if file.name not in ONLY_NAMED and _content(one / file) != _content(other / file):
            differ.append(f"{file}: differs")
    return differ


def _content(file: Path) -> Any:
    """What has to be the same; the bytes of a file that is damaged."""
    content = file.read_bytes()
    with contextlib.suppress(ValueError):
        if file.suffix == ".json":
            return _without_times(json.loads(content))
        if file.suffix == ".jsonl":
            return [_without_times(json.loads(line)) for line in content.splitlines()]
    return content


def counts_of(names: list[str], seed: int) -> list[dict[str, Any]]:
    """What the records say of each command, and of all."""
    counts = []
    for name in names:
        runs = [json.loads(file.read_text()) for file in (FOLDER / name).glob(f"{seed}-*.json")]
        kills = Counter(victim for run in runs for victim, _ in run["kills"])
        equal = sum(not run["differences"] for run in runs)
        counts.append(
            {"of": name, "kills": kills.total()}
            | {f"of the {victim}": kills[victim] for victim in VICTIMS}
            | {"starts": sum(run["starts"] for run in runs), "equal": equal, "different": len(runs) - equal}
            | {"orphans": sum(run["orphans"] for run in runs)}
        )
    return [*counts, {"of": "all", **{key: sum(row[key] for row in counts) for key in counts[0] if key != "of"}}]


def write_result(names: list[str], seed: int) -> None:
    """Write `results/kills.json`; exit 1 where a run differs or a process was left over."""
    counts = counts_of(names, seed)
    result = {**provenance("kills", "kills"), "config": {"seed": seed}, "counts": counts}
    write_bytes(RESULTS / "kills.json", json.dumps(result, indent=2).encode() + b"\n")
    if counts[-1]["different"] or counts[-1]["orphans"]:
        sys.exit(f"{counts[-1]['different']} runs differ, {counts[-1]['orphans']} orphans: see {FOLDER}")


if __name__ == "__main__":
    main()
