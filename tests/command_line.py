"""The command line in tests: its type, and a small experiment."""

import subprocess
from collections.abc import Callable

Command = Callable[..., subprocess.CompletedProcess[str]]

TINY = [
    *("--teacher", "mlp:64x1", "--teacher-epochs", "8", "--student", "mlp:8x1", "--epochs", "6", "--seeds", "3"),
    *("--temperature", "2,8", "--learning-rate", "0.1,0.3", "--set", "tuning_seeds=1"),
]
"""A whole experiment on the digits in a few seconds."""
