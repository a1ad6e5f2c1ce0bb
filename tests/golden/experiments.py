"""A tiny run of every experiment: `python tests/golden/experiments.py FOLDER [NAME...]` writes what it found.

Times and the machine are left out. The commands run on torch's and oneDNN's oldest kernels, on one thread: so the
numbers hardly depend on the processor.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SMALL = (
    "--teacher",
    "mlp:32x1",
    "--teacher-epochs",
    "4",
    "--student",
    "mlp:8x1",
    "--epochs",
    "3",
    "--seeds",
    "2",
    "--teacher-learning-rate",
    "0.05",
)

COMMANDS: dict[str, tuple[str, ...]] = {
    "distill": (
        *("distill", "--teacher", "mlp:64x1", "--teacher-epochs", "8", "--student", "mlp:8x1", "--epochs", "6"),
        *("--seeds", "3", "--temperature", "2,8", "--learning-rate", "0.1,0.3", "--set", "tuning_seeds=1"),
        *("--teacher-learning-rate", "0.05"),
    ),
    "distill-missing": (
        *("distill", *_SMALL, "--drop-classes", "3", "--fit-bias", "missing", "--teachers", "2"),
        *("--ensemble-mean", "geometric", "--temperature", "4", "--learning-rate", "0.1", "--labelled", "0.5"),
    ),
    "distill-views": (
        "distill",
        *_SMALL,
        "--views",
        "jitter:1",
        "--temperature",
        "inf",
        "--learning-rate",
        "0.03,0.1",
    ),
    "reproduce-mnist": ("reproduce", "mnist", "--scale", "tiny", "--data", "digits"),
    "transfer": (
        *("transfer", "--network", "mlp:12x2", "--epochs", "3", "--splits", "2"),
        *("--set", "network.learning_rate=0.1"),
    ),
    "reproduce-transfer": ("reproduce", "transfer", "--scale", "tiny", "--data", "digits"),
    "reproduce-transfer-or-distil": ("reproduce", "transfer-or-distil", "--scale", "tiny"),
    "advise": (
        *(
            "advise",
            "--network",
            "mlp:16x2",
            "--epochs",
            "6",
            "--set",
            "base.epochs=3",
            "--seeds",
            "2",
            "--controls",
        ),
    ),
    "reproduce-advise": ("reproduce", "advise", "--scale", "tiny"),
    "specialists": (
        *("specialists", "--epochs", "4", "--specialist-epochs", "2", "--seeds", "2", "--distill"),
        *("--temperature", "1,2", "--set", "distill.epochs=3"),
    ),
    "reproduce-specialists": ("reproduce", "specialists", "--scale", "tiny", "--data", "digits"),
    "speech": (
        *("speech", "train", "fsdd", "--network", "mlp:32x1", "--epochs", "2", "--context", "4,2"),
        *("--fraction", "0.1", "--learning-rate", "0.1"),
    ),
    "reproduce-speech": ("reproduce", "speech", "--scale", "tiny"),
    "reproduce-texts": ("reproduce", "texts", "--scale", "tiny", "--data", "sst2"),
    "reproduce-tokens": (
        *("reproduce", "tokens", "--scale", "tiny", "--set", "data.name=text:texts", "--set", "temperature=2.0"),
        *("--set", "student.optimiser=sgd", "--set", "student.learning_rate=0.3"),
    ),
    "distill-words": (
        *(
            "distill",
            "--task",
            "token-classification",
            "--data",
            "conll:words.conll",
            "--teacher",
            "transformer:1x16",
        ),
        *(
            "--student",
            "textconv:8-8",
            "--teacher-epochs",
            "2",
            "--epochs",
            "2",
            "--seeds",
            "2",
            "--temperature",
            "2",
        ),
        *("--set", "student.optimiser=sgd", "--learning-rate", "0.3"),
    ),
}
NEED_DATA = ("speech", "reproduce-speech", "reproduce-texts")
"""Those that read the spoken digits or the sentences of `INSTAR_DATA`."""

_KERNELS = {
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
}
_TIMES = ("seconds", "real_time_factor", "seconds_ratio", "latency_ms", "environment")


def _write_texts(folder: Path) -> None:
    """Texts, and sentences with a tag for each word, which no installed package changes."""
    (folder / "texts").mkdir(exist_ok=True)
    sentences = []
    for number in range(40):
        who, where = ("Ann", "Bob", "Eve")[number % 3], ("Oslo", "Lima", "Rome", "Bonn")[number % 4]
        lines = [f"{who} has {number * place % 7} books and {place} chairs in {where}." for place in range(1, 13)]
        (folder / "texts" / f"{number:02}.txt").write_text("\n".join(lines))
        sentences += [
            [(word, {who: "PER", f"{where}.": "LOC"}.get(word, "O")) for word in line.split()] for line in lines
        ]
    blocks = ["".join(f"{word} {tag}\n" for word, tag in one) for one in sentences]
    (folder / "words.conll").write_text("\n".join(blocks))


def run(name: str, folder: Path) -> dict[str, Any]:
    """The content of `result.json`, without times, after a run (or a resumed one) in `folder/name`."""
    _write_texts(folder)
    command = [
        sys.executable,
        "-m",
        "instar",
        *COMMANDS[name],
        "--run-dir",
        str(folder / name),
        "--json",
        "--quiet",
    ]
    done = subprocess.run(command, env={**os.environ, **_KERNELS}, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr}")
    found: dict[str, Any] = without_times(json.loads(done.stdout))
    return found


def without_times(content: Any) -> Any:
    """The same without what differs from one run to the next."""
    if isinstance(content, dict):
        return {
            key: without_times(value)
            for key, value in content.items()
            if key not in _TIMES and not key.endswith("_seconds")
        }
    return [without_times(one) for one in content] if isinstance(content, list) else content


def machine() -> str:
    """What decides the last bits: the processor, and the number of its cores.

    Its name alone does not: on two kinds of "AMD EPYC" a fit had other last bits.
    """
    cpuinfo = Path("/proc/cpuinfo")
    first = cpuinfo.read_text().partition("\n\n")[0] if cpuinfo.exists() else ""
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    about = [known.get(key, "unknown") for key in ("model name", "cpu family", "model", "stepping")]
    flags = hashlib.sha256(" ".join(sorted(known.get("flags", "").split())).encode()).hexdigest()[:8]
    return f"{' '.join(about)} {flags}, {os.cpu_count()} cores"


def main(folder: Path, names: list[str]) -> None:
    """Write `NAME.json` of each into the folder; the runs, with their weights, are thrown away."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or COMMANDS:
        with tempfile.TemporaryDirectory() as runs:
            found = {"machine": machine(), **run(name, Path(runs))}
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
