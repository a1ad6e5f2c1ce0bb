"""What is uploaded to the package index can be installed, and says there what the README says."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import instar

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    return sorted(out.iterdir())


@pytest.mark.slow
def test_the_index_would_take_wheel_and_sdist(distributions: list[Path]) -> None:
    assert [path.name for path in distributions] == [
        f"instar-{instar.__version__}-py3-none-any.whl",
        f"instar-{instar.__version__}.tar.gz",
    ]
    assert run(sys.executable, "-m", "twine", "check", "--strict", *distributions).count("PASSED") == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".whl", ".tar.gz"])
def test_it_is_installed_and_runs(kind: str, distributions: list[Path], tmp_path: Path) -> None:
    """In an environment of its own that finds what instar needs in this one: nothing is downloaded."""
    (distribution,) = (path for path in distributions if path.name.endswith(kind))
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    run(python, "-m", "pip", "install", *options, distribution, cwd=tmp_path)
    assert run(python.parent / "instar", "--version", cwd=tmp_path) == f"instar {instar.__version__}\n"
    glossary = "from instar.documentation import glossary_text; print(glossary_text()[:10])"
    assert run(python, "-c", glossary, cwd=tmp_path) == "# Glossary\n"
    where = run(python, "-c", "import instar.losses; print(instar.losses.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(packages)
