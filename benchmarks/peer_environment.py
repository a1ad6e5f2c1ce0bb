"""A virtual environment of its own for the peer, which sees this one's torch and packages."""

import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "bench-venv"


def peer_python() -> Path:
    """The interpreter that has torchdistill too, made on the first call.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    requirements, constraints = ROOT / "benchmarks" / "requirements.txt", ROOT / "constraints.txt"
    wanted = requirements.read_bytes() + constraints.read_bytes() + sys.prefix.encode()
    stamp = FOLDER / f"installed-{hashlib.blake2b(wanted, digest_size=4).hexdigest()}"
    python = FOLDER / "bin" / "python"
    if stamp.exists():
        return python
    venv.create(FOLDER, with_pip=True, clear=True, symlinks=True)
    here = sysconfig.get_path("purelib")
    there = Path(sysconfig.get_path("purelib", vars={"base": str(FOLDER), "platbase": str(FOLDER)}))
    (there / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The constraint keeps torch at what is there: another one would not be what `fit` is measured with.
    subprocess.run([*install, "--constraint", constraints, "--requirement", requirements], check=True)
    stamp.touch()
    return python
