"""The queue as files, and labels back from them, in the shapes that Label Studio and Argilla 2.8 really write."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from monitoring.core.errors import Conflict, InvalidInput
from monitoring.core.types import LabelSource, ModelVersion, Stage
from monitoring.label_answers import GivenLabel, read_labels
from monitoring.label_files import COLUMNS, WRITERS, write_queue
from monitoring.label_queue import Part, QueueItem
from tests.unit.monitoring.synthetic import NOW

AWKWARD = 'a "quoted" & <b>, class'
VERSION = ModelVersion("v1", "support", 1, Stage.PRODUCTION, "", "", ("billing", AWKWARD), {}, {}, NOW)
IDS = [f"019b8e2c-0000-7000-8000-00000000000{number}" for number in range(3)]
ITEMS = [
    QueueItem(
        IDS[0],
        NOW,
        "=SUM(1)\n“ciao”, he said",
        "billing",
        0.9,
        Part.RANDOM,
        "drawn",
        LabelSource.RANDOM_SAMPLE,
        0.1,
        ("billing",),
    ),
    QueueItem(IDS[1], NOW, "where?", AWKWARD, 0.4, Part.DRIFTED, "unlike", LabelSource.REVIEW, None, (AWKWARD,)),
    QueueItem(IDS[2], NOW, "hm", "billing", 0.5, Part.UNCERTAIN, "unsure", LabelSource.REVIEW, None, ("billing",)),
]
GIVEN = [AWKWARD, "returns", None]


def write(folder: Path, kind: str) -> Path:
    suffix = {"csv": ".csv", "jsonl": ".jsonl"}.get(kind, ".json")
    path = folder / f"queue{suffix}"
    assert write_queue(path, kind, ITEMS, VERSION)[0] == path
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill_in(path: Path, labels: Sequence[str | None]) -> Path:
    """What a person does in a spreadsheet, or a program in JSONL."""
    if path.suffix == ".csv":
        rows = [row | {"label": label or ""} for row, label in zip(read_csv(path), labels, strict=True)]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        filled = [line | {"label": label} for line, label in zip(lines, labels, strict=True)]
        path.write_text("".join(json.dumps(line) + "\n" for line in filled))
    return path


def label_studio_export(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first is labelled by three people, the second named anew, the third skipped."""

    def annotation(number: int, *results: dict[str, Any], was_cancelled: bool = False) -> dict[str, Any]:
        return {"id": number, "completed_by": number, "was_cancelled": was_cancelled, "result": list(results)}

    def choice(label: str) -> dict[str, Any]:
        return {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}

    new = {"from_name": "new_label", "to_name": "text", "type": "textarea", "value": {"text": ["returns"]}}
    answers = [
        [annotation(1, choice(AWKWARD)), annotation(2, choice("billing")), annotation(3, choice(AWKWARD))],
        [annotation(4, choice("billing"), new)],
        [annotation(5, choice("billing"), was_cancelled=True), annotation(6)],
    ]
    return [
        task | {"id": number, "annotations": given}
        for number, (task, given) in enumerate(zip(tasks, answers, strict=True))
    ]


def argilla_export(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first is labelled by two people, the second named anew, the third a draft."""

    def said(value: str, person: str = "8f4f") -> dict[str, str]:
        return {"value": value, "user_id": person}

    answers: list[tuple[str, dict[str, Any]]] = [
        ("completed", {"label": [said(AWKWARD), said(AWKWARD, "91aa")]}),
        ("completed", {"label": [said("billing")], "new_label": [said("returns")]}),
        ("pending", {"label": [said("billing")]}),
    ]
    return [
        record | {"status": status, "responses": responses, "_server_id": None}
        for record, (status, responses) in zip(records, answers, strict=True)
    ]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_what_is_filled_in_comes_back(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    if kind in ("csv", "jsonl"):
        fill_in(path, GIVEN)
    else:
        export = label_studio_export if kind == "label-studio" else argilla_export
        path.write_text(json.dumps(export(json.loads(path.read_text()))))
    assert read_labels(path) == [
        GivenLabel(1, IDS[0], AWKWARD, LabelSource.RANDOM_SAMPLE, 0.1),
        GivenLabel(2, IDS[1], "returns", LabelSource.REVIEW, None),
        GivenLabel(3, IDS[2], None, LabelSource.REVIEW, None),
    ]


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_label_studios_short_exports_come_back(tmp_path: Path, suffix: str) -> None:
    tasks = json.loads(write(tmp_path, "label-studio").read_text())
    answers = [{"label": "billing"}, {"label": "billing", "new_label": "returns"}, {"label": ""}]
    rows = [{**task["data"], "id": 1, "annotator": 1, **answer} for task, answer in zip(tasks, answers, strict=True)]
    path = tmp_path / f"export{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[1]))
            writer.writeheader()
            writer.writerows(rows)
    assert [item.label for item in read_labels(path)] == ["billing", "returns", None]
    assert [item.sampling_probability for item in read_labels(path)] == [0.1, None, None]


def test_the_random_part_is_labelled_without_the_models_answer(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, "csv"))
    assert [row["predicted"] for row in table] == ["", AWKWARD, "billing"]
    assert [row["confidence"] for row in table] == ["", "0.4", "0.5"]
    for kind, guesses in (("label-studio", "predictions"), ("argilla", "suggestions")):
        first, *others = json.loads(write(tmp_path / kind, kind).read_text())
        assert not first[guesses]
        assert all(task[guesses] for task in others)
        assert "billing" not in json.dumps(first)


def test_label_studio_gets_tasks_and_an_interface_that_fit(tmp_path: Path) -> None:
    tasks = json.loads(write(tmp_path, "label-studio").read_text())
    view = ElementTree.parse(tmp_path / "queue.config.xml").getroot()
    (shown,), (choices,) = view.findall("Text"), view.findall("Choices")
    assert shown.get("value") == "$text"
    assert [choice.get("value") for choice in choices] == list(VERSION.labels)
    assert all(set(task) == {"data", "predictions"} for task in tasks)
    assert [task["data"]["text"] for task in tasks] == [item.text for item in ITEMS]
    (result,) = tasks[1]["predictions"][0]["result"]
    assert result == {
        "from_name": choices.get("name"),
        "to_name": shown.get("name"),
        "type": "choices",
        "value": {"choices": [AWKWARD]},
    }
    assert tasks[1]["predictions"][0]["model_version"] == "support@1"


def test_argilla_gets_records_and_settings_that_fit(tmp_path: Path) -> None:
    records = json.loads(write(tmp_path, "argilla").read_text())
    settings = json.loads((tmp_path / "queue.settings.json").read_text())
    label, _ = settings["questions"]
    assert [option["value"] for option in label["settings"]["options"]] == list(VERSION.labels)
    assert [record["id"] for record in records] == IDS
    assert {name for record in records for name in record["fields"]} == {part["name"] for part in settings["fields"]}
    assert records[1]["suggestions"] == {"label": {"value": AWKWARD, "score": 0.4, "agent": "support@1"}}
    assert "sampling_probability" not in records[1]["metadata"]  # Argilla takes no null there


def test_a_spreadsheet_shows_a_message_and_does_not_run_it(tmp_path: Path) -> None:
    assert read_csv(write(tmp_path, "csv"))[0]["text"] == "'" + str(ITEMS[0].text)
    assert (tmp_path / "queue.csv").read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_file_that_may_hold_labels_is_not_written_over(tmp_path: Path) -> None:
    path = fill_in(write(tmp_path, "csv"), GIVEN)
    before = path.read_text()
    with pytest.raises(Conflict, match="may hold labels"):
        write_queue(path, "csv", ITEMS, VERSION)
    assert path.read_text() == before


ROW = {"prediction_id": IDS[0], "label": "billing", "source": "review", "sampling_probability": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "guess"}, "row 2, source: 'guess' is none of ground_truth, random_sample, review, complaint"),
        ({"source": None}, "row 2, source: '' is none of"),
        ({"sampling_probability": "a tenth"}, "row 2, sampling_probability: 'a tenth' is not a number"),
        ({"label": "x" * 201}, "row 2, label: has 201 characters"),
        ({"label": "a\0b"}, "row 2, label: .*no NUL"),
        ({"label": "account"}, "row 2, label: 'account' contradicts 'billing' in row 1"),
    ],
)
def test_a_bad_row_is_named_with_its_field_and_cure(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([ROW, ROW | change]))
    with pytest.raises(InvalidInput, match=told):
        read_labels(path)


def test_all_bad_rows_are_told_at_once_up_to_ten(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([ROW | {"source": "guess"}] * 12))
    with pytest.raises(InvalidInput) as told:
        read_labels(path)
    assert told.value.message.count("guess") == 10
    assert "and 2 more" in told.value.message


def test_people_who_disagree_are_asked_to_settle(tmp_path: Path) -> None:
    path = write(tmp_path, "argilla")
    records = argilla_export(json.loads(path.read_text()))
    records[0]["responses"]["label"][0]["value"] = "billing"
    path.write_text(json.dumps(records))
    with pytest.raises(InvalidInput, match="row 1, label: no answer has a majority"):
        read_labels(path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("labels.txt", b"", "unknown kind of file"),
        ("labels.csv", b"", "cannot be read as csv"),
        ("labels.csv", b"prediction_id,label\n1,2\n", "has no column 'source'"),
        ("labels.csv", b"prediction_id,label,source,sampling_probability\n", "holds no rows"),
        ("labels.json", b"", "cannot be read as JSON"),
        ("labels.json", b"\xff\xfe", "cannot be read as JSON"),
        ("labels.json", b"[" * 100_000, "cannot be read as JSON"),
        ("labels.json", b"{}", "not a JSON list"),
        ("labels.json", b"[1]", "not a JSON list"),
        ("labels.json", b'[{"text": "hi"}]', "row 1 of .* has none of annotations"),
        ("labels.json", b'[{"annotations": 7, "data": 7}]', "row 1, source"),
        ("labels.json", b'[{"responses": [{}], "metadata": []}]', "row 1, source"),
        ("labels.json", b'[{"annotations": [{"result": [{"type": "choices", "value": 1}]}], "data": {}}]', "row 1"),
        ("none.json", None, "does not exist"),
        ("none.csv", None, "does not exist"),
    ],
)
def test_a_bad_file_is_one_readable_error(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=told):
        read_labels(path)
