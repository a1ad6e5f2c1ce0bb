"""`kill -9` of a store's writing at any moment, then the same again: the same bytes in every file."""

import random
import time
from pathlib import Path

import pytest
import torch
from interrupted_stores import SHARDS, write_store

from instar.distillation import SoftTargetStore
from instar.errors import RunError, UsageError
from instar.processes import start_process

KILLS = 20


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def shards_of(path: Path) -> int:
    return len(list(path.glob("shard-*.arrow")))


@pytest.mark.filterwarnings("ignore:teacher .* is right on:instar.errors.DataWarning")  # they were not trained
@pytest.mark.slow
def test_a_store_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Twenty times, over as many stores as that takes."""
    seed = random.randrange(2**32)
    print(f"moments from seed {seed}")  # noqa: T201 - shown when it fails
    moments = random.Random(seed)
    whole = tmp_path / "whole"
    began = time.monotonic()
    write_store(whole, torch.get_num_threads())
    seconds, expected = time.monotonic() - began, contents(whole)
    assert shards_of(whole) == SHARDS

    kills = number = 0
    found = []  # finished shards at each kill
    while kills < KILLS:
        path, number, exitcode = tmp_path / f"killed-{number}", number + 1, -9
        while exitcode == -9:
            process = start_process(write_store, path, torch.get_num_threads())
            if kills < KILLS:
                while kills % 2 and process.is_alive() and not shards_of(path):
                    time.sleep(0.002)  # on a busy machine a process may take longer to start than to write
                process.join(moments.uniform(0, seconds / 3))
                process.kill()
            process.join()
            exitcode = process.exitcode or 0
            if exitcode == -9:
                kills += 1
                found.append(shards_of(path) if path.exists() else 0)
                if found[-1] < SHARDS:
                    with pytest.raises((RunError, UsageError), match=r"not finished|not a soft-target store"):
                        SoftTargetStore.open(path)
        assert exitcode == 0
        assert contents(path) == expected
    print(f"{seconds:.2f} s; shards at each kill: {found}")  # noqa: T201
    assert sum(0 < shards < SHARDS for shards in found) >= 3, found  # in the middle of its work
