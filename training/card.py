"""The model card: what the model is for, what it learnt from, how good it is, and where to be careful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitoring.core.bundle import BundleConfig

WEAKEST = 5
BEFORE = "---\n\nThe card of the model as it was trained, before any recalibration:"


def model_card(config: BundleConfig, evidence: Mapping[str, Any]) -> str:
    """Markdown, from what the bundle itself holds."""
    sections = (
        f"# {config.model}",
        _summary(config),
        _data(config, evidence),
        _quality(evidence),
        _serving(config, evidence),
        _gates(evidence),
        _limits(config),
    )
    return "\n\n".join(sections) + "\n"


def recalibration_card(config: BundleConfig, evidence: Mapping[str, Any], parents: str) -> str:
    """Markdown: what the recalibration changed, then the card of the version that it was made from (`parents`)."""
    done, changed = config.lineage["recalibration"], evidence["recalibration"]
    temperature = changed["temperature"]
    told = (
        f"# {config.model}, recalibrated\n\nThis is {done['of']} with another temperature: "
        f"{temperature['before']:.3f} became {temperature['after']:.3f}, fitted to {done['fitted']} outcome-blind "
        f"labels as known at {done['as_of']} (snapshot `{done['snapshot']}`). It gives the same labels; confidence, "
        "entropy and margin are new, and so is the baseline that they are compared with"
        f"{_made_of(done.get('baseline'))}."
    )
    tables = [
        f"On {part['n']} rows {where}, with 95 % intervals:\n\n" + _table(("measure", "before", "after"), _moved(part))
        for part, where in ((changed["recent"], "held out from the fit"), (changed["old"], "of the old hold-out"))
    ]
    original = parents.split(BEFORE, 1)[-1].strip()
    return "\n\n".join((told, *tables, _gates(evidence), BEFORE, original)) + "\n"


def _made_of(baseline: Mapping[str, Any] | None) -> str:
    """What is said of a recalibration's baseline, where the champion's had been changed."""
    if baseline is None:
        return ""
    if "reason" in baseline:
        return f": its hold-out's, not that of the span which was in force, since {baseline['reason']}"
    return f": new answers to the texts of {baseline['since']} to {baseline['until']}, the span that was in force"


def _moved(part: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, _interval(both["before"]), _interval(both["after"])) for name, both in part["measures"].items()]


def _interval(found: Mapping[str, float | None]) -> str:
    return f"{_figure(found['value'])} ({_figure(found['low'])} to {_figure(found['high'])})"


def _summary(config: BundleConfig) -> str:
    lineage = config.lineage
    recipe = lineage["recipe"]
    return (
        f"Sorts a text into one of {len(config.labels)} classes. Made from `{lineage['base_model']}` "
        f"(revision `{lineage['base_revision'][:19]}`) by the method `{recipe['method']}`, seed {lineage['seed']}, "
        f"with Leeway `{lineage['code_version']}`. Cause of this training: {lineage['cause']}"
        + (f"; it follows version `{lineage['parent']}`." if lineage["parent"] else ".")
    )


def _data(config: BundleConfig, evidence: Mapping[str, Any]) -> str:
    changes = evidence["changes"]
    rows = _table(("part", "rows"), [(name, str(count)) for name, count in changes["rows"].items() if count])
    lines = [
        "## Data",
        f"Snapshot `{config.lineage['snapshot']}`, SHA-256 `{config.lineage['data_hash'][:16]}…`, "
        f"as known at {config.lineage['as_of']}.",
        rows,
        "Classes: " + ", ".join(f"`{label}`" for label in config.labels) + ".",
    ]
    if changes["classes_added"]:
        lines.append("New in this version: " + ", ".join(f"`{label}`" for label in changes["classes_added"]) + ".")
    if changes["classes_waiting"]:
        waiting = ", ".join(f"`{label}` ({count})" for label, count in changes["classes_waiting"].items())
        lines.append(f"Asked for, but with too few examples yet: {waiting}.")
    return "\n\n".join(lines)


def _quality(evidence: Mapping[str, Any]) -> str:
    candidate, champion = evidence["metrics"]["candidate"], evidence["metrics"]["champion"]
    names = ("accuracy", "macro_f1", "ece_debiased", "ece", "brier")
    heads = ("measure", "this model") if champion is None else ("measure", "this model", "the champion")
    both = [candidate] if champion is None else [candidate, champion]
    figures = _table(heads, [(name, *(_figure(one[name]) for one in both)) for name in names])
    weakest = sorted(candidate["per_class"].items(), key=lambda item: item[1]["f1"])[:WEAKEST]
    classes = _table(
        ("weakest classes", "precision", "recall", "F1", "rows"),
        [
            (label, _figure(one["precision"]), _figure(one["recall"]), _figure(one["f1"]), str(one["n"]))
            for label, one in weakest
        ],
    )
    return f"## Quality\n\nOn {candidate['n']} held-out rows, never trained on.\n\n{figures}\n\n{classes}"


def _serving(config: BundleConfig, evidence: Mapping[str, Any]) -> str:
    parity = evidence["parity"]
    offers = [
        (
            offer["precision"],
            str(offer["max_batch"]),
            _figure(offer["agreement"]),
            _figure(offer["accuracy_loss"]),
            _figure(offer["dependence"]),
            f"{offer['texts_per_second']:.0f}",
        )
        for offer in parity["offers"]
    ]
    heads = ("precision", "batch", "labels as torch", "accuracy lost", "moved by its batch", "texts/s, one thread")
    return (
        f"## Serving\n\nPrecision {config.precision}, batches of up to {config.max_batch}, texts cut at "
        f"{config.max_tokens} tokens, temperature {config.temperature:.3f}. Chosen because {parity['reason']}. "
        f"{parity['agreement']:.2%} of its labels agree with torch.\n\n" + _table(heads, offers)
    )


def _gates(evidence: Mapping[str, Any]) -> str:
    rows = [(gate["name"], "passed" if gate["passed"] else "FAILED", gate["reason"]) for gate in evidence["gates"]]
    return "## Gates\n\n" + _table(("gate", "result", "why"), rows)


def _limits(config: BundleConfig) -> str:
    return (
        "## Limits\n\nIt always answers with one of its classes, even a text that belongs to none: low confidence and "
        "low similarity tell such texts, and the monitor watches both. Figures hold for texts like the tested ones; "
        f"text after token {config.max_tokens} is not read. Probabilities are calibrated on the validation rows."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
