"""The named data sets: their files, publishers and checksums, and where they are found."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from instar.data.fetch import fetch
from instar.errors import DataError, UsageError


@dataclass(frozen=True)
class Source:
    """A public data set."""

    name: str
    what: str
    """a description in one line"""
    publisher: str
    """base URL of the files"""
    files: Mapping[str, str]
    """MD5 of each file, by name"""
    other_files: tuple[tuple[str, ...], ...] = field(default=())
    """other sets of files with the same content, which are read as well"""

    @property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        """Every set of files that is a complete data set."""
        return tuple(self.files), *self.other_files

    def form_in(self, folder: Path) -> tuple[str, ...] | None:
        """The first complete set of files in a folder, or None."""
        return next((form for form in self.forms if all((folder / name).is_file() for name in form)), None)


_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_PLAIN_IDX_FILES = tuple(name.removesuffix(".gz") for name in _IDX_FILES)
_PARQUET_FILES = (
    ("train.parquet", "test.parquet"),
    ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),  # as Hugging Face names them
)


def _idx_source(name: str, what: str, publisher: str, *checksums: str) -> Source:
    return Source(name, what, publisher, dict(zip(_IDX_FILES, checksums, strict=True)), (_PLAIN_IDX_FILES,))


def _cifar_source(name: str, what: str, archive: str, checksum: str) -> Source:
    # The binary archive, not the one for Python, which is pickle and could run any code.
    return Source(name, what, "https://www.cs.toronto.edu/~kriz/", {archive: checksum}, _PARQUET_FILES)


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _idx_source(
            "mnist",
            "60,000 + 10,000 handwritten digits, 28x28 grey",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        _idx_source(
            "fashion-mnist",
            "60,000 + 10,000 pieces of clothing in 10 classes, 28x28 grey",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        _cifar_source(
            "cifar10",
            "50,000 + 10,000 pictures in 10 classes, 32x32 colour",
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        ),
        _cifar_source(
            "cifar100",
            "50,000 + 10,000 pictures in 100 classes, 32x32 colour",
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
        ),
        Source(
            "omniglot",
            "20 drawings of each of 1,623 characters of 50 alphabets, 105x105 black and white",
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
            {
                "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
                "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
            },
            (("omniglot.npz",),),
        ),
    )
}

TEXT_SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "clinc150",
            "23,700 questions of 150 intents, and of none of them",
            "https://raw.githubusercontent.com/clinc/oos-eval/master/data/",
            {"data_full.json": "30c29dc6ab78edf3b5dfa640be204cde"},
        ),
        Source(
            "sst2",
            "9,613 sentences of film reviews, negative or positive",
            "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2/",
            {
                "train.tsv": "c6150a821d5effe356ec872c2b95855c",
                "dev.tsv": "3f2a9a844576f2b5a7aeeac2ccbab1c7",
                "test.tsv": "f8f49ee1b37ec68b0e8977fbe33761e2",
            },
        ),
    )
}
"""Those of texts, which are rows of a table."""

FSDD = Source(  # a speech corpus, which `load_data` does not read
    "fsdd",
    "3,000 recordings of spoken digits, six speakers, 8 kHz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/",
    {"fsdd-recordings.zip": "a36450af460feea67d8efd648792cf67"},
)


def cache_folder() -> Path:
    """The cache folder: `INSTAR_CACHE`, else `instar` in `XDG_CACHE_HOME`, else `~/.cache/instar`.

    Raises:
        UsageError: there is neither a home directory nor one of the two variables.
    """
    if chosen := os.environ.get("INSTAR_CACHE"):
        return Path(chosen).expanduser()
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).expanduser() / "instar"
    try:
        return Path.home() / ".cache" / "instar"
    except RuntimeError as error:
        raise UsageError("no home directory to cache data in; set INSTAR_CACHE to a folder") from error


def find(source: Source) -> tuple[Path, tuple[str, ...]] | None:
    """The folder that holds a complete data set, and its files: `INSTAR_DATA` first, then the cache.

    Raises:
        DataError: the folder in `INSTAR_DATA` lacks some of the files.
        UsageError: `INSTAR_DATA` is not a folder.
    """
    if chosen := os.environ.get("INSTAR_DATA"):
        root = Path(chosen).expanduser()
        if not root.is_dir():
            raise UsageError(
                f"INSTAR_DATA={chosen} is not a folder; set it to one that holds NAME/FILES, or unset it"
            )
        folder = root / source.name
        if form := source.form_in(folder):
            return folder, form
        _refuse_half(source, folder)
    folder = cache_folder() / source.name
    form = source.form_in(folder)
    return (folder, form) if form else None


def obtain(source: Source, *, base_url: str | None = None, progress: bool = True) -> tuple[Path, tuple[str, ...]]:
    """`find`, or download the missing files from the publisher into the cache.

    Args:
        source: one of `SOURCES`.
        base_url: base URL of a mirror.
        progress: draw a bar on stderr.

    Returns: the folder and the names of the files in it.

    Raises:
        DataError: the folder in `INSTAR_DATA` lacks some of the files, or a download fails.
        UsageError: `INSTAR_DATA` is not a folder.
    """
    if found := find(source):
        return found
    folder = cache_folder() / source.name
    base = (base_url or source.publisher).rstrip("/")
    for name, checksum in source.files.items():
        if not (folder / name).is_file():
            fetch(f"{base}/{name}", folder / name, md5=checksum, progress=progress)
    return folder, tuple(source.files)


def _refuse_half(source: Source, folder: Path) -> None:
    """Refuse an incomplete data set: it is probably a mistake, which a download would hide."""
    for form in source.forms:
        missing = [name for name in form if not (folder / name).is_file()]
        if len(missing) < len(form):
            others = " or ".join(name for name in source.files if name not in form)
            instead = f" (or {others})" if others and len(source.files) == 1 else ""
            raise DataError(
                f"data set {source.name!r}: {folder} lacks {', '.join(missing)}{instead}; add it, or remove the "
                f"folder to download the data from {source.publisher}"
            )
