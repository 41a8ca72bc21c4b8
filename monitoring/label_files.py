"""The label queue as files for people: a table to fill in, tasks for Label Studio, records for Argilla.

Whoever labels the random part is not shown what the model answered: a suggestion pulls labels towards itself, and the
accuracy by these labels would flatter. The rest comes with the model's answer, which saves most of the clicks.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from monitoring.core.errors import Conflict
from monitoring.core.types import ModelVersion
from monitoring.label_queue import Part, QueueItem

COLUMNS = (
    "prediction_id",
    "text",
    "label",
    "predicted",
    "confidence",
    "choices",
    "part",
    "reason",
    "source",
    "sampling_probability",
    "model",
    "at",
)
CARRIED = ("prediction_id", "source", "sampling_probability", "model", "part", "reason", "at")
"""What a labelling tool keeps beside the text, and gives back with the label."""
ANSWER, OTHER = "label", "new_label"
"""The names of the two questions: one of the classes, or in words a class that the model lacks."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_queue(path: Path, kind: str, items: Sequence[QueueItem], version: ModelVersion) -> list[Path]:
    """Write the queue as one of WRITERS, and what its tool needs to be set up; the files written.

    Raises Conflict where a file is there already, for it may hold labels.
    """
    if path.exists():
        raise Conflict(f"{path} is there and may hold labels: import it, or choose another name", field="out")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = WRITERS[kind](path, items, version)
    for file, content in files.items():
        file.write_text(content, encoding="utf-8", newline="")
    return list(files)


def as_row(item: QueueItem, version: ModelVersion) -> dict[str, Any]:
    """One item under COLUMNS, with an empty label; what the model answered is left out of the random part."""
    blind = item.part is Part.RANDOM
    return {
        "prediction_id": item.prediction_id,
        "text": item.text,
        "label": None,
        "predicted": None if blind else item.predicted,
        "confidence": None if blind else round(item.confidence, 4),
        "choices": [] if blind else list(item.choices),
        "part": item.part.value,
        "reason": item.reason,
        "source": item.source.value,
        "sampling_probability": item.sampling_probability,
        "model": version.model,
        "at": item.at.isoformat(),
    }


def _csv(path: Path, items: Sequence[QueueItem], version: ModelVersion) -> dict[Path, str]:
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    for item in items:
        row = as_row(item, version)
        row["choices"] = " | ".join(row["choices"])
        row["text"] = _no_formula(row["text"])
        writer.writerow(row)
    return {
        path: "\ufeff" + table.getvalue()
    }  # spreadsheets take a file without the mark for something else than UTF-8


def _jsonl(path: Path, items: Sequence[QueueItem], version: ModelVersion) -> dict[Path, str]:
    return {path: "".join(json.dumps(as_row(item, version), ensure_ascii=False) + "\n" for item in items)}


def _label_studio(path: Path, items: Sequence[QueueItem], version: ModelVersion) -> dict[Path, str]:
    """Tasks as `Import` takes them, and the labelling interface (https://labelstud.io/guide/tasks)."""
    tasks = []
    for item in items:
        row = as_row(item, version)
        predicted = row["predicted"]
        chosen = {"from_name": ANSWER, "to_name": "text", "type": "choices", "value": {"choices": [predicted]}}
        guess = {"model_version": version.name, "score": row["confidence"], "result": [chosen]}
        data = {"text": row["text"], **{name: row[name] for name in CARRIED}}
        tasks.append({"data": data, "predictions": [] if predicted is None else [guess]})
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in version.labels)
    interface = (
        '<View>\n  <Text name="text" value="$text"/>\n'
        f'  <Choices name="{ANSWER}" toName="text" choice="single">\n{choices}  </Choices>\n'
        f'  <TextArea name="{OTHER}" toName="text" maxSubmissions="1" placeholder="none of these? name a new class"/>\n'
        "</View>\n"
    )
    return {path: _json(tasks), path.with_suffix(".config.xml"): interface}


def _argilla(path: Path, items: Sequence[QueueItem], version: ModelVersion) -> dict[Path, str]:
    """Records as `dataset.records.from_json` takes them, and settings for `rg.Settings.from_json` (Argilla 2)."""
    records = []
    for item in items:
        row = as_row(item, version)
        guess = {"value": row["predicted"], "score": row["confidence"], "agent": version.name}
        records.append(
            {
                "id": row["prediction_id"],
                "fields": {"text": row["text"]},
                "metadata": {name: row[name] for name in CARRIED if row[name] is not None},
                "suggestions": {} if row["predicted"] is None else {ANSWER: guess},
                "responses": {},
                "vectors": {},
            }
        )
    options = [{"text": name, "value": name} for name in version.labels]
    settings = {
        "guidelines": f"Which class of {version.model} is right? If none is, name a new one.",
        "fields": [_argilla_part("text", "Text", {"type": "text", "use_markdown": False}, required=True)],
        "questions": [
            _argilla_part(ANSWER, "Class", {"type": "label_selection", "options": options}, required=False),
            _argilla_part(OTHER, "A new class", {"type": "text", "use_markdown": False}, required=False),
        ],
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
    return {path: _json(records), path.with_suffix(".settings.json"): _json(settings)}


def _argilla_part(name: str, title: str, settings: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "title": title, "settings": settings, "required": required, "type": settings["type"]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _no_formula(text: str | None) -> str | None:
    """A message as a spreadsheet shows it and does not run it: anybody may have written it."""
    return f"'{text}" if text is not None and text.startswith(FORMULA) else text


WRITERS: Mapping[str, Callable[[Path, Sequence[QueueItem], ModelVersion], dict[Path, str]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "label-studio": _label_studio,
    "argilla": _argilla,
}
NEED_TEXT = ("label-studio", "argilla")
"""A task without a text is none; in a table it can be joined by prediction_id."""
