"""Parquet files, with the classes that their metadata name."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from instar.data.records.features import features_of, with_class_names
from instar.data.records.files import parts_of_files
from instar.data.records.on_disk import in_little_memory, is_large, on_disk
from instar.data.records.places import with_places
from instar.errors import DataError, first_line

SUFFIXES = (".parquet", ".pq")
_LIMITS = {"thrift_string_size_limit": 1 << 26, "thrift_container_size_limit": 1 << 20}  # of a footer


def read_tables(place: str) -> dict[str, pa.Table]:
    """The tables of `parquet:PLACE` by part.

    Raises:
        UsageError: there is no such file.
        DataError: a file that is no whole Parquet file.
    """
    return {part: read_files(files) for part, files in parts_of(place).items()}


def parts_of(place: str) -> dict[str, list[Path]]:
    """The files that `read_tables` reads, by part."""
    return parts_of_files("parquet", place, SUFFIXES)


def read_files(files: Iterable[Path]) -> pa.Table:
    """Several files as one table."""
    return with_places(in_little_memory(map(read_parquet, files)), [str(file) for file in files], first=1)


def read_parquet(file: Path) -> pa.Table:
    """One file. Numbered classes get their names, each file's its own: another may have them in another order.

    Raises:
        DataError: it is no whole Parquet file.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, memory_map=True, page_checksum_verification=True, **_LIMITS) as content:
            groups = [content.metadata.row_group(number) for number in range(content.num_row_groups)]
            if is_large(sum(group.total_byte_size for group in groups)):
                table = on_disk(content.iter_batches(), content.schema_arrow)
            else:
                table = content.read()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{file}: not a whole Parquet file: {first_line(error)}") from error
    return with_class_names(table, features_of(table.schema.metadata), file, first=1)
