#!/usr/bin/env bash
# pytest 9.2.0 with pytest-xdist 3.8.0: `--dist loadgroup` spreads tests of one `xdist_group` over the workers.
#
# xdist writes the group behind a test's id in the worker, and the scheduler reads it there. With pytest 9.2.0 the id
# stays as it was, so every test is a group of its own: no error, no warning, and the mark is accepted. Tests that
# share a port, a file or an expensive fixture then run beside each other. With 9.1.1 the same tests stay together.
#
# Expected: the twenty tests of one group in one worker, as documented; an error where that cannot be had.
# Seen: they ran in two workers.
# Cure: pytest < 9.2, or `--dist loadfile` or `loadscope`, which go by the id that is there.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/test_group.py" <<'P'
import time

import pytest


@pytest.mark.xdist_group("port")
@pytest.mark.parametrize("number", range(20))
def test_shares_a_port(number, worker_id):
    time.sleep(0.05)
    with open("workers.txt", "a") as file:
        print(worker_id, file=file)
P
workers() {
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
    (cd "$folder" && rm -f workers.txt && venv/bin/python -m pytest -q --numprocesses 2 --dist "$2" test_group.py > /dev/null && sort -u workers.txt | wc -l)
}
before=$(workers 9.1.1 loadgroup); after=$(workers 9.2.0 loadgroup); cure=$(workers 9.2.0 loadfile)
echo "workers that ran the group: pytest 9.1.1 $before, 9.2.0 $after, 9.2.0 with loadfile $cure"
[ "$before" = 1 ] && [ "$cure" = 1 ]
[ "$after" = 2 ] || { echo "groups are respected now: this finding is out of date"; exit 1; }
