"""Imported first by the server that workers are forked from, and by no other process.

It imports once what takes each process two seconds. It computes nothing, initialises no CUDA and starts no thread:
none of them survives a fork.
"""

import ctypes
import gc
import os
import signal

_PR_SET_PDEATHSIG = 1
_IS_SERVER = signal.SIGTERM in signal.pthread_sigmask(
    signal.SIG_BLOCK, ()
)  # it outlives a signal to the whole group


def _end_with_parent(number: int) -> None:
    """Have Linux send this signal when the parent ends; 0 for none."""
    if _IS_SERVER:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


_end_with_parent(signal.SIGKILL)  # a command that is refused leaves no imports behind

import torch._dynamo  # noqa: E402, F401 - an optimiser imports it when it is made

import instar.training  # noqa: E402, F401

_end_with_parent(0)  # from now on it ends when nobody can ask it for a worker any more
if _IS_SERVER:
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}))
    gc.collect()
    gc.freeze()  # no collection in a worker looks at all these modules again
