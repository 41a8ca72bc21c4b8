from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.core.errors import InvalidInput
from training.data import HOLDOUT, TRAIN, VALIDATION, LabelledData, read_splits, read_table, split

ROWS = [("where is my card", "card"), ("card, please", "card"), ("reset password", "login"), ("no login", "login")]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_kind_of_file_reads_alike(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    table = pa.table({"message": [text for text, _ in ROWS], "intent": [label for _, label in ROWS]})
    if ending == "parquet":
        pa.parquet.write_table(table, path)
    elif ending == "csv":
        pa.csv.write_csv(table, path)
    else:
        path.write_bytes(b"\n".join(orjson.dumps(row) for row in table.to_pylist()))

    data = read_table(path, "message", "intent")

    assert list(zip(data.texts, data.labels, strict=True)) == ROWS


def test_times_and_further_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "text,label,day,part\na,x,2026-01-01,train\nb,x,2026-01-02,train\nc,y,2026-01-03,test\nd,y,2026-01-04,test\n"
    )
    data = read_table(path, "text", "label", "day", extra=["part"])
    assert data.times is not None
    assert data.times[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert data.extra["part"] == ("train", "train", "test", "test")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,kind\na,x\n", "it has: text, kind"),
        ("text,label\na,x\n,x\nc,y\nd,y\n", "row 2: text is empty"),
        ("text,label\na,x\nb,x\nc,\nd,y\n", "row 3 is empty"),
        ("text,label\na,x\nb,x\nc,y\n", "'y' (row 3)"),
        ("text,label\na,x\nb,x\n", "a classifier needs two"),
        (f"text,label\na,{'x' * 201}\nb,x\nc,y\nd,y\n", "row 1 is over 200 characters"),
        ("text,label\n", "holds no rows"),
    ],
)
def test_a_fault_is_named_with_its_row(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput) as caught:
        read_table(path, "text", "label")
    assert says in caught.value.message


words = st.lists(st.sampled_from(["card", "Card ", "late", "parcel", "lost", "pin"]), min_size=1, max_size=4)


@given(texts=st.lists(words.map(" ".join), min_size=1, max_size=60), classes=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_split_leaks_no_text_and_leaves_no_class_untaught(texts: list[str], classes: int, seed: int) -> None:
    labels = [f"class {row % classes}" for row in range(len(texts))]
    parts = split(texts, labels, seed=seed)

    same = [" ".join(text.casefold().split()) for text in texts]
    assert len(set(zip(same, parts, strict=True))) == len(set(same))
    leaders = [same.index(text) for text in dict.fromkeys(same)]
    assert {labels[row] for row in leaders} == {labels[row] for row in leaders if parts[row] == TRAIN}
    assert parts == split(texts, labels, seed=seed)


def test_a_split_keeps_the_shares_class_by_class() -> None:
    labels = ["many"] * 200 + ["few"] * 20
    parts = split([f"text {row}" for row in range(220)], labels, seed=3)
    found = Counter(zip(labels, parts, strict=True))
    assert found == {
        ("many", TRAIN): 130,
        ("many", VALIDATION): 30,
        ("many", HOLDOUT): 40,
        ("few", TRAIN): 13,
        ("few", VALIDATION): 3,
        ("few", HOLDOUT): 4,
    }


def test_the_smallest_classes_are_taught_and_tested() -> None:
    parts = split(["a", "b", "c", "d", "e"], ["two", "two", "three", "three", "three"], seed=0)
    assert Counter(parts[:2]) == {TRAIN: 1, HOLDOUT: 1}
    assert Counter(parts[2:]) == {TRAIN: 1, VALIDATION: 1, HOLDOUT: 1}


def _data(labels: list[str]) -> LabelledData:
    return LabelledData(tuple(f"text {row}" for row in range(len(labels))), tuple(labels))


def test_a_files_own_split_is_kept() -> None:
    data = _data(["x", "y", "x", "y", "x", "y"])
    assert read_splits(["train", "Train", "val", "dev", "test", "baseline"], "part", data, seed=0) == (
        TRAIN,
        TRAIN,
        VALIDATION,
        VALIDATION,
        HOLDOUT,
        HOLDOUT,
    )


def test_validation_is_taken_from_train_where_the_file_has_none() -> None:
    data = _data(["x", "y"] * 20)
    column = ["train"] * 30 + ["test"] * 10
    parts = read_splits(column, "part", data, seed=0)
    assert Counter(parts) == {TRAIN: 26, VALIDATION: 4, HOLDOUT: 10}
    assert parts[30:] == (HOLDOUT,) * 10


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["train", "train", "tset", "test"], "'tset' in row 3"),
        (["train", "train", "train", "train"], "names no holdout rows"),
        (["train", "validation", "test", "test"], "label 'y' (row 2, 4) does not occur among the train rows"),
    ],
)
def test_a_split_column_that_cannot_be_used_is_refused(column: list[str], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_splits(column, "part", _data(["x", "y", "x", "y"]), seed=0)
    assert says in caught.value.message
