#!/usr/bin/env bash
# CPython 3.11: after the fork server has been used once, a forked child cannot start processes with it.
#
# The fork server is one object of the module, with an inherited pipe and the id of the server's process. A child made by
# os.fork() (also a gunicorn worker, or a pytest plugin that forks) inherits the object and takes the server for its
# own child: starting a process ends in ChildProcessError from os.waitpid, although nothing about processes was done in
# the child before. A context of `spawn` works there.
#
# Expected: the child's first process starts, as it does where the parent had not used the fork server.
# Seen: ChildProcessError.
# Cure: a `multiprocessing.forkserver.ForkServer` of one's own for each process id, or `spawn` after a fork.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/try.py" <<'P'
import multiprocessing
import os
import sys


def work():
    pass


def start_one():
    process = multiprocessing.get_context("forkserver").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def in_a_fork():
    child = os.fork()
    if child == 0:
        try:
            code = start_one()
        except ChildProcessError:
            code = 77
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    if sys.argv[1] == "used":
        start_one()
    print(in_a_fork())
P
python3 --version
fresh=$(python3 "$folder/try.py" fresh) used=$(python3 "$folder/try.py" used)
echo "exit status of a process started in a fork: parent had not used the server $fresh, parent had used it $used (77: ChildProcessError)"
[ "$fresh" = 0 ] && [ "$used" = 77 ]
