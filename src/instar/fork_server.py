"""What the server of worker processes imports first; no other process imports this module.

The imports take two seconds, once instead of in each worker. The server computes nothing, initialises no CUDA and
starts no thread: these do not survive a fork. (Where rows of tables were read before, the allocator of Arrow has
one, and starts it again after a fork.)
"""

import ctypes
import gc
import os
import signal

_PR_SET_PDEATHSIG = 1
_IS_SERVER = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # see `start_server`


def _end_with_parent(number: int) -> None:
    """Have Linux send the server this signal when its parent ends; 0 for none."""
    if _IS_SERVER:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


_end_with_parent(signal.SIGKILL)  # a command that fails at once leaves no process behind

import instar.training  # noqa: E402, F401

_end_with_parent(0)  # from now on it ends when no process is left that could ask it for a worker
if _IS_SERVER:
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}))
    gc.collect()
    gc.freeze()  # garbage collections in workers skip these modules
