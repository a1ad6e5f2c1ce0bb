#!/usr/bin/env bash
# soundfile 0.14.0 (libsndfile 1.2.2): a GSM recording with an odd number of blocks is read with 320 samples too many.
#
# A block of GSM 6.10 in a wav file has 65 bytes and 320 samples. With an odd number of blocks the data chunk has an odd
# size, so a byte of padding follows it, which is no part of the chunk. The reader counts it as the start of one more
# block. The file itself is right: its data chunk has 1,625 bytes and its fact chunk says 8,000 samples. Whoever aligns
# labels by the sample, or counts seconds of speech, has 40 ms too much at 8 kHz.
#
# Expected: as many samples as were written.
# Seen: 8,320 of 8,000; right for an even number of blocks.
# Cure: cut the samples at the count in the fact chunk.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 soundfile==0.14.0
"$folder/venv/bin/python" - "$folder" <<'P'
import sys

import numpy as np
import soundfile

path = sys.argv[1] + "/speech.wav"
found = {}
for blocks in (2, 25, 50):
    tone = 0.1 * np.sin(0.3 * np.arange(320 * blocks))
    soundfile.write(path, tone, 8000, subtype="GSM610")
    content = open(path, "rb").read()
    data, fact = content.index(b"data"), content.index(b"fact")
    size = int.from_bytes(content[data + 4 : data + 8], "little")
    stated = int.from_bytes(content[fact + 8 : fact + 12], "little")
    read, _ = soundfile.read(path)
    found[blocks] = len(read) - len(tone)
    print(
        f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}: {len(tone)} samples written, "
        f"data chunk {size} bytes, fact chunk {stated} samples, {len(read)} samples read"
    )
    assert stated == len(tone)
assert found == {2: 0, 25: 320, 50: 0}, "the padding byte is no longer read: this finding is out of date"
P
