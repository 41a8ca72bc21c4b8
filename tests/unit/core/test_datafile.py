"""The same rows from CSV, JSON lines and Parquet; what cannot be used is named with its column and row."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from monitoring.core.datafile import MAX_TEXT_BYTES, read_columns, text_column, time_column
from monitoring.core.errors import InvalidInput

ROWS = pa.table({"text": ["my parcel, late", 'she said "no"', "two\nlines"], "label": ["delivery", "other", "é"]})
EAST = timezone(timedelta(hours=2))
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def write_jsonl(table: pa.Table, path: Path) -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in table.to_pylist()))


WRITERS: dict[str, Callable[[pa.Table, Path], object]] = {
    "csv": lambda table, path: csv.write_csv(table, path),
    "jsonl": write_jsonl,
    "ndjson": write_jsonl,
    "parquet": lambda table, path: parquet.write_table(table, path),
}


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_text(path: Path, column: str = "text") -> list[str]:
    return text_column(read_columns(path, [column]), column)


def read_times(path: Path) -> list[datetime]:
    return list(time_column(read_columns(path, ["at"]), "at").to_pylist())


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind.upper() if kind == 'csv' else kind}"
    WRITERS[kind](ROWS, path)
    table = read_columns(path, ["label", "text"])
    assert table.column_names == ["label", "text"]
    assert text_column(table, "text") == ROWS["text"].to_pylist()
    assert text_column(table, "label") == ROWS["label"].to_pylist()


@pytest.mark.parametrize("value", ["007", "1.0", "true", "2024-01-01", "NA", "null"])
def test_csv_leaves_texts_as_they_are_written(tmp_path: Path, value: str) -> None:
    assert read_text(write(tmp_path, "data.csv", f"text\n{value}\n")) == [value]


def test_texts_are_stripped_and_numbers_become_texts(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, "data.jsonl", '{"text": "  hello \\n"}\n')) == ["hello"]
    assert read_text(write(tmp_path, "data.jsonl", '{"text": 7}\n{"text": 8}\n')) == ["7", "8"]


def test_a_missing_column_is_told_with_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path, "data.csv", "message,label\nhello,a\n")
    with pytest.raises(InvalidInput, match=r"no column 'text'; it has: message, label") as caught:
        read_columns(path, ["label", "text"])
    assert caught.value.field == "text"


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="several columns 'text'"):
        read_columns(write(tmp_path, "data.csv", "text,text\na,b\n"), ["text"])


@pytest.mark.parametrize("empty", ["", '"  "'], ids=["nothing", "spaces"])
def test_an_empty_text_is_told_with_its_row(tmp_path: Path, empty: str) -> None:
    path = write(tmp_path, "data.csv", f"text,label\nhello,a\n{empty},b\n")
    with pytest.raises(InvalidInput, match="row 2: text is empty") as caught:
        read_text(path)
    assert caught.value.field == "text"


def test_null_is_empty_too(tmp_path: Path) -> None:
    path = write(tmp_path, "data.jsonl", '{"text": "a"}\n{"text": null}\n{}\n')
    with pytest.raises(InvalidInput, match="row 2: text is empty"):
        read_text(path)


def test_the_limit_of_a_text_is_in_bytes(tmp_path: Path) -> None:
    most = "é" * (MAX_TEXT_BYTES // 2)
    path = tmp_path / "data.parquet"
    parquet.write_table(pa.table({"text": [most]}), path)
    assert read_text(path) == [most]
    parquet.write_table(pa.table({"text": ["fine", most + "x"]}), path)
    with pytest.raises(InvalidInput, match=r"row 2: text has 262,145 bytes; at most 262,144"):
        read_text(path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("data.xlsx", b"PK", "unknown kind of file; give one of .csv, .jsonl"),
        ("data.csv", b"", "cannot be read as csv"),
        ("data.csv", b"text\n", "holds no rows"),
        ("data.csv", "text\ncafé\n".encode("latin-1"), "cannot be read as csv.*UTF8"),
        ("data.csv", "text\ncafé\n".encode("utf-16"), "cannot be read as csv.*utf-8"),
        ("data.csv", b"text,label\na,b\nc\n", "cannot be read as csv.*Expected 2 columns, got 1"),
        ("data.jsonl", b'{"text": "a"\n', "cannot be read as jsonl"),
        ("data.jsonl", '{"text": "café"}\n'.encode("latin-1"), "cannot be read as jsonl.*UTF8"),
        ("data.parquet", b"PAR1", "cannot be read as parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=f"(?s){name}:? {told}"):
        read_columns(write(tmp_path, name, content), ["text"])


def test_a_file_or_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.csv does not exist"):
        read_columns(tmp_path / "absent.csv", ["text"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InvalidInput, match=r"folder\.csv cannot be read"):
        read_columns(tmp_path / "folder.csv", ["text"])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-01-05T12:00:00", NOON),
        ("2026-01-05 12:00:00", NOON),
        ("2026-01-05T12:00:00Z", NOON),
        ("2026-01-05T14:00:00+02:00", NOON),
        ("2026-01-05T14:00:00.25+02:00", NOON + timedelta(milliseconds=250)),
        ("2026-01-05T12:00:00.000001", NOON + timedelta(microseconds=1)),
        ("2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_written_times_are_utc_unless_they_say_otherwise(
    tmp_path: Path, kind: str, written: str, meant: datetime
) -> None:
    rows = {"csv": f"at\n{written}\n", "jsonl": f'{{"at": "{written}"}}\n'}
    assert read_times(write(tmp_path, f"data.{kind}", rows[kind])) == [meant]


def test_naive_and_aware_times_may_be_mixed(tmp_path: Path) -> None:
    path = write(tmp_path, "data.csv", "at\n2026-01-05T12:00:00\n2026-01-05T14:00:00+02:00\n")
    assert read_times(path) == [NOON, NOON]


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        (pa.array([NOON.replace(tzinfo=None)], pa.timestamp("ns")), NOON),
        (pa.array([NOON], pa.timestamp("ms", tz="Asia/Tokyo")), NOON),
        (pa.array([date(2026, 1, 5)]), datetime(2026, 1, 5, tzinfo=UTC)),
        (pa.array(["2026-01-05T14:00:00+02:00"], pa.large_string()), NOON),
    ],
    ids=["naive", "aware", "date", "large string"],
)
def test_times_in_parquet(tmp_path: Path, column: pa.Array, meant: datetime) -> None:
    parquet.write_table(pa.table({"at": column}), tmp_path / "data.parquet")
    assert read_times(tmp_path / "data.parquet") == [meant]


@given(st.integers(0, 7_258_118_400_000_000))
def test_what_isoformat_writes_is_read_back(microseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    naive, east = moment.replace(tzinfo=None).isoformat(), moment.astimezone(EAST).isoformat()
    assert time_column(pa.table({"at": [naive, east]}), "at").to_pylist() == [moment, moment]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("at\nyesterday\n", "row 1: at 'yesterday' is not a date or time"),
        ("at\n1767614400\n", "row 1: at '1767614400' is not a date or time"),
        ("at,x\n2026-01-05,1\n,2\n", "row 2: at is empty"),
    ],
)
def test_what_is_no_time_is_told_with_its_row(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        read_times(write(tmp_path, "data.csv", content))
    assert caught.value.field == "at"


def test_numbers_are_no_times_since_nothing_says_their_unit(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at is not a column of dates or times"):
        read_times(write(tmp_path, "data.jsonl", '{"at": 1767614400}\n'))


def test_a_missing_time_is_told(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"at": pa.array([NOON, None], pa.timestamp("us"))}), tmp_path / "data.parquet")
    with pytest.raises(InvalidInput, match="at is empty in 1 rows"):
        read_times(tmp_path / "data.parquet")
