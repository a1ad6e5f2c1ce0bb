#!/usr/bin/env bash
# transformers 5.24.0: without torchvision an image processor cuts floats down to whole bytes, and darkens the picture.
#
# A folder's `preprocessor_config.json` is carried out by torchvision where it is installed, else by Pillow. Floats from
# 0 to 1 with `do_rescale=False` are documented input. The first computes with them; the second makes bytes of them in
# `resize`, also to the size that they have, and not by rounding: each value loses up to 1/255, half of it on average.
# The same folder and picture so give other logits on another machine; a model that was trained on floats sees a shift.
#
# Expected: floats stay floats, or are rounded.
# Seen: all of 768 values of a picture are lower than before, by 0.002 on average.
# Cure: give such processors bytes (with `do_rescale`), or resize before with `do_resize=False`, which keeps floats.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 transformers==5.24.0
TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - "$folder" <<'P'
import json
import sys
from pathlib import Path

import numpy as np
import transformers

folder = Path(sys.argv[1], "processor")
folder.mkdir()
size = {"height": 16, "width": 16}
about = {"image_processor_type": "ViTImageProcessor", "size": size, "do_resize": True, "do_normalize": False}
(folder / "preprocessor_config.json").write_text(json.dumps(about))
processor = transformers.AutoImageProcessor.from_pretrained(folder)
picture = np.random.default_rng(0).random((3, 16, 16), dtype=np.float32)


def lost(**options):
    given = {"do_rescale": False, "input_data_format": "channels_first", "return_tensors": "np"}
    return picture - processor(images=[picture], **given, **options)["pixel_values"][0]


resized, kept = lost(), lost(do_resize=False)
print(
    f"transformers {transformers.__version__}, {type(processor).__name__}: {int((resized > 0).sum())} of {resized.size} "
    f"values are lower, by {resized.mean():.4f} on average, {resized.max():.4f} at most; without resizing {np.abs(kept).max():g}"
)
assert np.abs(kept).max() == 0
assert resized.min() >= 0 and 0.0015 < resized.mean() < 0.0025, "floats are kept or rounded now: this finding is out of date"
P
