"""Labels as people give them back: the table we wrote, with its column `label` filled in, Label Studio's or Argilla's
export. Every kind becomes the same rows, and every faulty row is told at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.core.datafile import READERS, read_columns
from monitoring.core.errors import InvalidInput
from monitoring.core.types import LabelSource
from monitoring.label_files import ANSWER, OTHER

COLUMNS = ("prediction_id", "label", "source", "sampling_probability")
MAX_LABEL = 200
SHOWN_FAULTS = 10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class GivenLabel:
    """One row of a file; `label` is None where nobody has filled it in yet."""

    row: int
    prediction_id: str
    label: str | None
    source: LabelSource
    sampling_probability: float | None


class Faults:
    """What is wrong with which row and field, collected so that a file can be put right in one go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[tuple[int, str, str]] = []

    def add(self, row: int, field: str, fault: str) -> None:
        """Note a fault, with its cure."""
        self._found.append((row, field, fault))

    def raise_any(self) -> None:
        """Raise InvalidInput with the first faults, if there are any."""
        if not self._found:
            return
        shown = "\n".join(f"  row {row}, {field}: {fault}" for row, field, fault in self._found[:SHOWN_FAULTS])
        more = len(self._found) - SHOWN_FAULTS
        tail = f"\n  … and {more} more" if more > 0 else ""
        raise InvalidInput(f"nothing of {self._path} was kept:\n{shown}{tail}", field=self._found[0][1])


def read_labels(path: Path) -> list[GivenLabel]:
    """All rows of the file, those without a label included. Raises InvalidInput, naming every faulty row (1-based)."""
    faults = Faults(path)
    rows = [_given(number, row, faults) for number, row in enumerate(_rows(path, faults), start=1)]
    given = [row for row in rows if row is not None]
    said: dict[tuple[str, LabelSource], GivenLabel] = {}
    for item in given:
        first = said.setdefault((item.prediction_id, item.source), item)
        if None not in (item.label, first.label) and item.label != first.label:
            fault = f"{item.label!r} contradicts {first.label!r} in row {first.row}: keep one of them"
            faults.add(item.row, "label", fault)
    faults.raise_any()
    return given


def _given(number: int, row: Row, faults: Faults) -> GivenLabel | None:
    values = {name: _text(row.get(name)) for name in COLUMNS}
    label = values["label"] or None
    try:
        source = LabelSource(values["source"])
    except ValueError:
        known = ", ".join(LabelSource)
        faults.add(number, "source", f"{values['source']!r} is none of {known}: write the one that is true")
        return None
    try:
        probability = float(values["sampling_probability"]) if values["sampling_probability"] else None
    except ValueError:
        said = values["sampling_probability"]
        faults.add(number, "sampling_probability", f"{said!r} is not a number in (0, 1]: restore it from the export")
        return None
    if label is not None and (len(label) > MAX_LABEL or "\0" in label):
        faults.add(number, "label", f"has {len(label)} characters: use {MAX_LABEL} at most, and no NUL")
        return None
    return GivenLabel(number, values["prediction_id"], label, source, probability)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _rows(path: Path, faults: Faults) -> Iterator[Row]:
    rows = _json_list(path) if path.suffix.lower() == ".json" else _table(path)
    for number, task in enumerate(rows, start=1):
        reader = next((reader for key, reader in TASKS.items() if key in task), None)
        if reader is None:
            known = "annotations (Label Studio), responses (Argilla) or prediction_id (a table)"
            raise InvalidInput(f"row {number} of {path} has none of {known}: export it again as JSON", field="data")
        row, answers = reader(task)
        yield {**row, "label": _agreed(number, answers, faults)}


def _table(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() not in READERS:
        raise InvalidInput(f"{path}: unknown kind of file; give one of {', '.join(READERS)}, .json", field="data")
    try:
        table = read_columns(path, (*COLUMNS, OTHER))  # Label Studio's CSV has both answers
    except InvalidInput as error:
        if error.field != OTHER:
            raise
        table = read_columns(path, COLUMNS)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _json_list(path: Path) -> list[dict[str, Any]]:
    try:
        read = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InvalidInput(f"{path} does not exist", field="data") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}", field="data") from error
    if not isinstance(read, list) or not read or not all(isinstance(task, dict) for task in read):
        raise InvalidInput(f"{path} is not a JSON list of tasks or records: export it again as JSON", field="data")
    return read


def _label_studio(task: Row) -> tuple[Row, list[str]]:
    """A task of Label Studio's JSON export; what was skipped is no answer."""
    answers = []
    for annotation in _dicts(task["annotations"]):
        if annotation.get("was_cancelled"):
            continue
        said: dict[str, str] = {}
        for result in _dicts(annotation.get("result")):
            kind = result.get("type")
            value = result.get("value")
            words = value.get("text" if kind == "textarea" else "choices") if isinstance(value, dict) else None
            first = _text(words[0] if isinstance(words, list) and words else words)
            if first and kind in ("choices", "textarea"):
                said.setdefault(OTHER if kind == "textarea" else ANSWER, first)
        answers += [said.get(OTHER) or said[ANSWER]] if said else []
    data = task.get("data")
    return data if isinstance(data, dict) else {}, answers


def _argilla(record: Row) -> tuple[Row, list[str]]:
    """A record of Argilla's JSON export; while it is pending, its responses are drafts."""
    responses = record["responses"]
    metadata = record.get("metadata")
    row = {**(metadata if isinstance(metadata, dict) else {}), "prediction_id": record.get("id")}
    if record.get("status") == "pending" or not isinstance(responses, dict):
        return row, []
    by_person: dict[str, str] = {}
    for question in (ANSWER, OTHER):  # a class named in words is said after, and instead of, one of the list
        for response in _dicts(responses.get(question)):
            if said := _text(response.get("value")):
                by_person[_text(response.get("user_id"))] = said
    return row, list(by_person.values())


def _flat(row: Row) -> tuple[Row, list[str]]:
    """A row of our own table, or of Label Studio's JSON-MIN and CSV exports."""
    said = _text(row.get(OTHER)) or _text(row.get(ANSWER))
    return row, [said] if said else []


def _agreed(number: int, answers: Sequence[str], faults: Faults) -> str | None:
    """What more than half of the people said."""
    if not answers:
        return None
    (label, votes), *_ = Counter(answers).most_common(1)
    if 2 * votes <= len(answers):
        said = ", ".join(sorted(set(answers)))
        faults.add(number, "label", f"no answer has a majority ({said}): settle on one in the tool, and export again")
    return label


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


TASKS: Mapping[str, Callable[[Row], tuple[Row, list[str]]]] = {
    "annotations": _label_studio,
    "responses": _argilla,
    "prediction_id": _flat,
}
