"""Runs blocks of Python one after the other, as a reader would, and writes what each of them prints as JSON."""

import contextlib
import io
import json
import sys


def main() -> None:
    """Read the blocks from stdin; the first one that fails ends the process with its traceback."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = []
    for number, block in enumerate(json.load(sys.stdin), 1):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block, f"block {number}", "exec"), namespace)
        printed.append(said.getvalue())
    json.dump(printed, sys.stdout)


if __name__ == "__main__":
    main()
