"""Data sets of Hugging Face: what `save_to_disk` left, Parquet files, or a name that is fetched from the hub."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from instar.data.fetch import fetch
from instar.data.records.features import features_of, with_class_names
from instar.data.records.files import ALL
from instar.data.records.parquet_file import parts_of as parts_of_parquet
from instar.data.records.parquet_file import read_files, read_parquet
from instar.data.records.parquet_file import read_tables as read_parquet_tables
from instar.data.records.parting import part_named
from instar.data.records.places import with_places
from instar.data.sources import cache_folder
from instar.errors import DataError, UsageError, first_line
from instar.naming import few

_PARTS, _STATE = "dataset_dict.json", "state.json"


def read_tables(place: str) -> dict[str, pa.Table]:
    """The tables of `hf:PLACE` by part: a folder of `save_to_disk`, a folder of Parquet, or OWNER/NAME[:CONFIG].

    Raises:
        UsageError: there is no such folder, and no such data set can be fetched.
        DataError: files that are damaged.
    """
    path = Path(place).expanduser()
    if (path / _PARTS).is_file():
        names = _read_json(path / _PARTS).get("splits", [])
        return _by_part(place, {name: _read_folder(path / name) for name in names})
    if (path / _STATE).is_file():
        return {ALL: _read_folder(path)}
    if path.exists():
        return read_parquet_tables(place)
    return _by_part(place, {name: read_files(files) for name, files in fetched(place).items()})


def parts_of(place: str) -> dict[str, list[Path]]:
    """The files that `read_tables` reads, by split."""
    path = Path(place).expanduser()
    if (path / _PARTS).is_file() or (path / _STATE).is_file():
        return {"": sorted(file for file in path.rglob("*") if file.is_file())}
    return parts_of_parquet(place) if path.exists() else fetched(place)


def _by_part(place: str, tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Tables by the names of splits, as parts; a single split is cut further."""
    if len(tables) == 1:
        return {ALL: next(iter(tables.values()))}
    parts = {name: part_named(name) for name in tables}
    found = {part: tables[name] for name, part in parts.items() if part is not None}
    if not {"train", "test"} <= set(found) and not {"train", "validation"} <= set(found):
        raise DataError(f"hf:{place}: expected splits train and test or validation, found {few(list(tables))}")
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def _read_folder(path: Path) -> pa.Table:
    """A data set that `save_to_disk` wrote: Arrow's stream format, mapped into memory."""
    names = [one.get("filename") for one in _read_json(path / _STATE).get("_data_files", [])]
    if not names:
        raise DataError(f"{path / _STATE}: names no files; save the data set again")
    return with_places(
        [_read_stream(path / str(name)) for name in names], [str(path / str(name)) for name in names], first=1
    )


def _read_stream(file: Path) -> pa.Table:
    if not file.is_file():
        raise DataError(f"{file}: there is no such file, and {_STATE} beside it names it; save the data set again")
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a whole Arrow stream: {first_line(error)}") from error
    return with_class_names(table, features_of(table.schema.metadata), file, first=1)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file}: cannot be read: {first_line(error)}; save the data set again") from error


def fetched(place: str) -> dict[str, list[Path]]:
    """The Parquet files of a data set of the hub by split, fetched into the cache once.

    Args:
        place: OWNER/NAME or OWNER/NAME:CONFIG.

    Raises:
        UsageError: it is no such name, or the data set has several configurations and none is named.
        DataError: it cannot be fetched.
    """
    name, _, config = place.partition(":")
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UsageError(f"hf:{place}: no such folder, and no name of the hub (OWNER/NAME)")
    kept = cache_folder() / "hf" / name
    listing = kept / "parquet.json"
    try:
        _download(f"{_endpoint()}/api/datasets/{name}/parquet", listing, _read_json)
    except DataError as error:
        raise DataError(
            f"hf:{place}: there is no such folder, and the hub does not give it: {error}; or name a folder that "
            "save_to_disk wrote where there is a network"
        ) from error
    configs = _read_json(listing)
    if not config and len(configs) > 1 and "default" not in configs:
        raise UsageError(
            f"hf:{place}: which configuration? hf:{name}:{next(iter(configs))}, or of {few(list(configs))}"
        )
    chosen = config or ("default" if "default" in configs else next(iter(configs), ""))
    if chosen not in configs:
        raise UsageError(f"hf:{place}: there is no configuration {chosen!r}; there is {few(list(configs))}")
    return {
        split: [
            _download(url, kept / chosen / split / f"{at}.parquet", read_parquet) for at, url in enumerate(urls)
        ]
        for split, urls in configs[chosen].items()
    }


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _download(url: str, file: Path, read: Callable[[Path], object]) -> Path:
    """A file of the hub, fetched where it is not there yet; `read` refuses what is damaged."""
    if file.is_file():
        return file
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "ON", "YES"):
        raise DataError(f"HF_HUB_OFFLINE forbids to fetch {url}")

    def check(part: Path) -> None:
        read(part)

    return fetch(url, file, check=check, retries=1)
