"""Reading a user's file of texts: CSV, JSONL or Parquet with named columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json, parquet

from monitoring.core.errors import InvalidInput

MAX_TEXT_BYTES = 262_144


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """The named columns of the file, in that order. Raises InvalidInput, naming what is wrong and what there is."""
    table = _read(path, columns)
    for column in columns:
        if column not in table.column_names:
            known = ", ".join(table.column_names)
            raise InvalidInput(f"{path} has no column {column!r}; it has: {known}", field=column)
        if table.column_names.count(column) > 1:
            raise InvalidInput(f"{path} has several columns {column!r}: rename all but one", field=column)
    if table.num_rows == 0:
        raise InvalidInput(f"{path} holds no rows", field="data")
    return table.select(list(columns))


def text_column(table: pa.Table, column: str) -> list[str]:
    """A column as texts, each stripped and non-empty. Raises InvalidInput with the first row that is not (1-based)."""
    values = [str(value) if value is not None else "" for value in table[column].to_pylist()]
    for row, value in enumerate(values, start=1):
        if not value.strip():
            raise InvalidInput(f"row {row}: {column} is empty; fill it in or leave the row out", field=column)
        if len(value.encode()) > MAX_TEXT_BYTES:
            raise InvalidInput(
                f"row {row}: {column} has {len(value.encode()):,} bytes; at most {MAX_TEXT_BYTES:,} are read",
                field=column,
            )
    return [value.strip() for value in values]


def time_column(table: pa.Table, column: str) -> pa.ChunkedArray:
    """A column as UTC timestamps in microseconds; naive times are taken as UTC. Raises InvalidInput."""
    values = table[column]
    try:
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            return _parse_times(values.to_pylist(), column)
        if not pa.types.is_temporal(values.type) and not pa.types.is_null(values.type):
            raise InvalidInput(f"{column} is not a column of dates or times (ISO 8601)", field=column)
        if pa.types.is_timestamp(values.type) and values.type.tz is not None:
            moments = values.cast(pa.timestamp("us", tz="UTC"))
        else:
            moments = pc.assume_timezone(values.cast(pa.timestamp("us")), "UTC")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(f"{column} is not a column of dates or times (ISO 8601): {error}", field=column) from error
    if moments.null_count:
        raise InvalidInput(f"{column} is empty in {moments.null_count} rows: every row needs its time", field=column)
    return moments


def _parse_times(texts: Sequence[str | None], column: str) -> pa.ChunkedArray:
    moments = []
    for row, text in enumerate(texts, start=1):
        if text is None or not text.strip():
            raise InvalidInput(f"row {row}: {column} is empty: every row needs its time", field=column)
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError as error:
            raise InvalidInput(
                f"row {row}: {column} {text!r} is not a date or time (ISO 8601)", field=column
            ) from error
        moments.append(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return pa.chunked_array([pa.array(moments, pa.timestamp("us", tz="UTC"))])


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path}: unknown kind of file; give one of {', '.join(READERS)}", field="data")
    try:
        table = reader(path, columns)
        table.validate(full=True)  # are its texts UTF-8?
        return table.rename_columns(table.column_names)  # and its names?
    except FileNotFoundError as error:
        raise InvalidInput(f"{path} does not exist", field="data") from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"{path} cannot be read as {path.suffix[1:]}: {error}", field="data") from error


def _read_csv(path: Path, columns: Sequence[str]) -> pa.Table:
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),  # texts may hold line breaks
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),  # "007" is not 7
    )


def _read_jsonl(path: Path, _columns: Sequence[str]) -> pa.Table:
    return json.read_json(path)


def _read_parquet(path: Path, _columns: Sequence[str]) -> pa.Table:
    return parquet.read_table(path)


READERS: Mapping[str, Callable[[Path, Sequence[str]], pa.Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}
