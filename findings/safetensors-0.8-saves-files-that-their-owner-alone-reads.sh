#!/usr/bin/env bash
# safetensors 0.8.0: save_file writes a file that nobody but its owner may read, whatever the umask, and replaces what was there.
#
# It writes a temporary file, which has the mode 0600, and renames it. With 0.7.0 the same call gave 0644 under the usual umask
# of 022, and wrote into the file that was there, with its mode and its other hard links. So weights that are saved into a
# shared folder, or over a file that a group may read, are refused to everybody else after the upgrade. save() and a write of
# one's own give 0644 as ever.
#
# Expected: the mode that the umask asks for, and that of the file which is written over.
# Seen: 0600 in both cases, and another inode.
# Cure: chmod after save_file, or save() and a write of one's own.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'P'
import os
import stat
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save, save_file


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


os.umask(0o022)
tensors, new, own, shared = {"a": np.zeros(3)}, Path("new"), Path("own"), Path("shared")
save_file(tensors, new)
own.write_bytes(save(tensors))
shared.touch()
shared.chmod(0o664)
before = shared.stat().st_ino
save_file(tensors, shared)
is_same = shared.stat().st_ino == before
print(f"safetensors {safetensors.__version__}: save_file {mode(new)}, save and write {mode(own)},", end=" ")
print(f"over a file of 0o664 {mode(shared)}, the same file: {is_same}")
assert (mode(new), mode(own), mode(shared), is_same) == ("0o600", "0o644", "0o600", False)
P
