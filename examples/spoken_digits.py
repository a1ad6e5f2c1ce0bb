"""The spoken digits as people have sounds: a folder of wav files, and a table that says who says what in which.

    python examples/spoken_digits.py digits

fetches the recordings (15 MB) once, and writes digits/clips.csv and digits/recordings/. The first four speakers by
name are the training part, the fifth is the validation and the sixth the test.
"""

import csv
import sys
from pathlib import Path

from instar.data.readers.audio import wav_bytes
from instar.speech import load_fsdd


def main(folder: Path) -> None:
    """Write the table and its files."""
    corpus = load_fsdd()
    *training, validation, test = corpus.speakers
    parts = {**dict.fromkeys(training, "train"), validation: "validation", test: "test"}
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    with (folder / "clips.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "digit", "speaker", "part"])
        for one in corpus.utterances:
            path = f"recordings/{one.id}.wav"
            (folder / path).write_bytes(wav_bytes(corpus.audio(one), corpus.sample_rate))
            rows.writerow([path, *one.words, one.speaker, parts[one.speaker]])
    print(f"{len(corpus.utterances):,} clips of {len(corpus.speakers)} speakers in {folder / 'clips.csv'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/spoken_digits.py FOLDER")
    main(Path(sys.argv[1]))
