"""Imported by the server that workers are forked from, and by no other process.

It imports once what takes each process two seconds. It computes nothing, initialises no CUDA and starts no thread:
none of them survives a fork.
"""

import gc
import os
import signal

import torch._dynamo  # noqa: F401 - an optimiser imports it when it is made

import instar.training  # noqa: F401

if signal.SIGTERM in signal.pthread_sigmask(
    signal.SIG_BLOCK, ()
):  # the server outlives a signal to the whole group
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}))
gc.collect()
gc.freeze()  # no collection in a worker looks at all these modules again
