"""The names of `import instar`: each once in its file, and nothing imported before it is used."""

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import instar


def test_every_public_name_is_there_and_described() -> None:
    assert len(instar.__all__) == len(set(instar.__all__)) > 50
    for name in instar.__all__:
        assert inspect.getdoc(getattr(instar, name)), name
    assert {*instar.__all__, "__version__"} == set(dir(instar))


def test_the_version_is_that_of_the_package() -> None:
    assert instar.__version__ == version("instar")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'instar' has no attribute 'distil'"):
        instar.distil  # noqa: B018


def test_importing_instar_imports_no_torch() -> None:
    command = "import sys, instar; instar.__version__; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout == "False\n"
