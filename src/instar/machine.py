"""A description of the machine and the software that a result was computed with."""

import contextlib
import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Versions, processor, threads, command and commit, as `environment.json` holds them."""
    from importlib.metadata import version

    import torch

    about: dict[str, Any] = {
        "instar": version("instar"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "command": _command(),
    }
    commit = commit_of(Path(__file__).parent)
    if commit is not None:
        about["commit"] = commit
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def memory_bytes() -> int | None:
    """The memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _command() -> list[str]:
    """The words that started this process; `python -m instar ...` is `instar ...`."""
    started = Path(sys.argv[0])
    return [started.parent.name if started.name == "__main__.py" else started.name, *sys.argv[1:]]


@functools.cache
def commit_of(folder: Path) -> str | None:
    """The commit of the code in a folder, with `-dirty` where it was changed since; None outside a checkout.

    Cached, since a worker writes it for each of its jobs.
    """
    git = ["git", "-C", str(folder)]
    # Results that the study before this one has published are no change of the code.
    changed = [*git, "diff", "--quiet", "HEAD", "--", ":(top)", ":(top,exclude)results"]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        return head.stdout.strip() + "-dirty" * bool(subprocess.run(changed, capture_output=True).returncode)
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
