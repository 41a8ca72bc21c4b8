"""The story, from first training to promotion; every act goes through the commands and the API that users have."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.core.errors import LeewayError
from monitoring.core.types import RetrainCause
from service.demo.backstage import Backstage
from service.demo.corpus import Script
from service.demo.display import Display, Stage
from service.demo.outcome import Figures, measure, why_not_closed
from service.demo.traffic import Answer, Api, Traffic

MODEL = "support"
# Messages a second: in steady times; while a verdict is awaited, which those on their way delay; while training runs.
BUSY, WATCHED, CALM = 40.0, 20.0, 4.0
LAST_MEASURE = 250  # answers of the new champion that the closing figure needs
SETTLE_SECONDS = 4.0  # until the monitor has judged what was sent last
PATIENT_POLLS = 120  # how often a rollout is asked for its verdict after the last message
ROLLOUT_SHARE = 0.7  # of the drifted messages is held back for rollout and measure, however long the training takes
RETRAININGS = 3  # as many may fail their gates before the story gives up

CONFIG = """\
# Made by `leeway demo`: a production configuration with its clocks turned forward.
[server]
port = {api_port}

[log]
ship_seconds = 1.0

[monitor]
port = {monitor_port}
interval_seconds = 1.0
window_size = 250

[retrain]
min_new_labels = 250
new_class_examples = 12
cooldown_hours = 0.0
recipe = "{method}"

[rollout]
steps = [0.3, 0.5]
step_min_units = 15
shadow_min_units = 40
maturation_seconds = 5.0
controller_seconds = 0.5

[alerts]
webhook_url = "http://127.0.0.1:{hook_port}/alerts"
console_url = "http://127.0.0.1:{api_port}/console"
"""


@dataclass(frozen=True)
class Options:
    """How the story is played. `patience`: seconds that any one wait may last."""

    base: str
    method: str
    seed: int
    approve_itself: bool
    summary: Path
    patience: float = 600.0


class Story:
    """One run of the demo."""

    def __init__(self, script: Script, stage: Backstage, display: Display, options: Options) -> None:
        self._script = script
        self._backstage = stage
        self._display = display
        self._options = options
        self._key = ""
        self._api = Api(stage.url, self._key)
        self._traffic = Traffic(self._api, MODEL, np.random.default_rng(options.seed))
        self._drift_position = len(script.steady)
        self._false_alarms = 0

    async def play(self) -> str | None:
        """Play it; None where the loop closed, else the reason why it did not."""
        sending: asyncio.Task[None] | None = None
        try:
            await self._set_up()
            await self._first_model()
            sending = asyncio.create_task(self._traffic.run())
            await self._steady_traffic()
            alarm = await self._drift()
            candidate = await self._retrain()
            await self._approval(candidate)
            promoted = await self._rollout(candidate)
            figures = await self._aftermath(alarm, candidate, promoted)
            return self._close(figures)
        except LeewayError as error:
            self._write_summary({"closed": False, "reason": error.message, "seed": self._options.seed})
            return error.message
        finally:
            if sending is not None:
                sending.cancel()
            self._traffic.stop()
            await self._api.close()

    async def _set_up(self) -> None:
        self._display.chapter("A support desk's model, from its first day")
        behind = self._backstage
        ports = {"api_port": behind.api_port, "monitor_port": behind.monitor_port, "hook_port": behind.hook_port}
        behind.prepare(CONFIG.format(**ports, method=self._options.method))
        self._script.write_training(behind.home / "training.csv")
        key = await behind.leeway("init")
        await self._api.close()
        self._key = key["key"]
        self._api = Api(behind.url, self._key)
        self._traffic = Traffic(self._api, MODEL, np.random.default_rng(self._options.seed))

    async def _first_model(self) -> None:
        with self._display.stage("train", "Train the first model") as stage:
            training = ["--data", str(self._backstage.home / "training.csv"), "--text-column", "text"]
            training += ["--label-column", "label", "--split-column", "split", "--model", MODEL]
            training += ["--base", self._options.base, "--method", self._options.method]
            result = await self._backstage.leeway(
                "train", *training, "--seed", str(self._options.seed), on_line=stage.show
            )
            metrics, parity = result["metrics"], result["parity"]
            stage.detail = (
                f"{metrics['accuracy']:.1%} on held-out messages, "
                f"agrees with torch on {parity['agreement']:.1%}, serves as {parity['precision']}"
            )
        with self._display.stage("serve", "Serve it") as stage:
            await self._backstage.start()
            await self._until(self._alive, "the service starts", stage)
            await self._api.post(f"/v1/versions/{result['version']}/approve", {"reason": "first version, reviewed"})
            await self._until(self._ready, "the model is loaded", stage)
            stage.detail = f"{self._backstage.url}  console: {self._backstage.url}/console"

    async def _steady_traffic(self) -> None:
        self._display.chapter("Traffic as it always was")
        with self._display.stage("steady", "Steady traffic") as stage:
            self._traffic.pace = BUSY
            self._traffic.enqueue(self._script.steady)
            await self._until(self._all_sent, "customers write", stage)
            await self._traffic.drain()
            await asyncio.sleep(SETTLE_SECONDS)
            steady = measure(self._traffic.answers)
            self._false_alarms = len(await self._alarms())
            stage.detail = f"{steady.n} messages, {steady.value:.1%} understood, {self._false_alarms} false alarms"
        if self._false_alarms:
            raise LeewayError(f"{self._false_alarms} false alarms before the drift")

    async def _drift(self) -> Mapping[str, Any]:
        self._display.chapter("The world changes: new products, new words, new wishes")
        with self._display.stage("detect", "Drift") as stage:
            self._traffic.pace = WATCHED
            self._traffic.enqueue(self._script.drifted)
            alarm: Mapping[str, Any] = await self._until(self._drift_alert, "customers write about new things", stage)
            delay = alarm["detail"]["n_seen"] - self._drift_position
            stage.detail = f"[yellow]alarm after {delay} predictions[/]: {alarm['summary']}"
            await self._until(self._received_by_webhook, "the webhook receives it", stage)
        self._display.note("the webhook received it, too")
        return alarm

    async def _retrain(self) -> str:
        """The first candidate that passes its gates. What fails them is repeated by Leeway itself, with more labels."""
        for attempt in range(1, RETRAININGS + 1):
            candidate = await self._candidate_of(attempt)
            if candidate["stage"] != "rejected":
                return str(candidate["name"])
            if attempt < RETRAININGS:
                self._display.note("[yellow]the gates hold it back:[/] the old model serves on, more labels are needed")
        raise LeewayError(f"{RETRAININGS} retrained models did not pass their gates")

    async def _candidate_of(self, attempt: int) -> Mapping[str, Any]:
        again = "" if attempt == 1 else f"-{attempt}"

        async def asked() -> dict[str, Any] | None:
            jobs = await self._retrainings()
            return jobs[0] if len(jobs) >= attempt else None

        async def trained() -> dict[str, Any] | None:
            job = await asked()
            if job is not None and job["state"] == "failed":
                raise LeewayError(f"the training job failed: {job['result']}")
            models = await self._retrained()
            return models[0] if len(models) > attempt and models[0]["stage"] != "candidate" else None

        self._traffic.pace = WATCHED
        self._traffic.reserve = int(ROLLOUT_SHARE**attempt * len(self._script.drifted))
        with self._display.stage(f"labels{again}", "Collect labels, decide to retrain") as stage:
            job = await self._until(asked, "labels of the new traffic arrive", stage)
            stage.detail = str(job["reason"])
        with self._display.stage(f"retrain{again}", "Retrain, export, gates") as stage:
            self._traffic.pace = CALM
            candidate: dict[str, Any] = await self._until(trained, "a worker trains", stage)
            stage.detail = f"{candidate['name']}: {_changes(candidate)}"
        rows = [
            (gate["name"], "[green]passed" if gate["passed"] else "[red]failed", str(gate["reason"]))
            for gate in candidate["evidence"]["gates"]
        ]
        self._display.table(("gate", "", "why"), rows)
        return candidate

    async def _approval(self, candidate: str) -> None:
        with self._display.stage("approve", "Approval") as stage:
            if self._options.approve_itself:
                await self._approve(candidate, "approved by --yes")
            else:
                self._display.note(
                    f"[bold yellow]waiting for your approval:[/] open {self._backstage.url}/console or press y, Enter"
                )
                self._display.note(f"the console asks for a key; this demo's is {self._key}")
                await self._ask(candidate, stage)
            stage.detail = f"{candidate} approved"

    async def _rollout(self, candidate: str) -> bool:
        self._display.chapter("Roll out, step by step")
        self._traffic.pace, self._traffic.reserve = WATCHED, 0
        with self._display.stage("rollout", "Shadow, A/B, verdict") as stage:
            seen: list[str] = []
            idle_polls = 0

            async def ended() -> Mapping[str, Any] | None:
                rollouts = (await self._api.get("/v1/rollouts", model=MODEL))["rollouts"]
                if not rollouts:
                    return None
                rollout: dict[str, Any] = rollouts[0]
                line = f"{rollout['stage']} {rollout['share']:.0%}: {rollout['reason']}"
                stage.show(line)
                moment = f"{rollout['stage']}{rollout['step']}{rollout['phase']}"
                if moment not in seen:
                    seen.append(moment)
                    self._display.note(f"[cyan]→[/] {line}")
                nonlocal idle_polls
                idle_polls = idle_polls + 1 if self._traffic.waiting == 0 else 0
                if rollout["phase"] == "running" and idle_polls > PATIENT_POLLS:
                    raise LeewayError(f"all messages are sent and the rollout has no verdict: {line}")
                return None if rollout["phase"] in ("pending", "running") else rollout

            rollout = await self._until(ended, "", stage)
            stage.detail = f"{rollout['phase']}: {rollout['reason']}"
        return bool(rollout["phase"] == "successful")

    async def _aftermath(self, alarm: Mapping[str, Any], candidate: str, promoted: bool) -> Figures:
        answers = self._traffic.answers
        if promoted:
            with self._display.stage("after", "Traffic with the new champion") as stage:

                async def enough() -> bool:
                    return self._traffic.waiting == 0 or len(_by_champion(answers, candidate)) >= LAST_MEASURE

                await self._until(enough, "customers write", stage)
                stage.detail = f"{len(_by_champion(answers, candidate))} answers"
        drifted = [answer for answer in answers if answer.position >= self._drift_position]
        first = next((a.position for a in sorted(drifted, key=lambda a: a.position) if a.version == candidate), 1 << 60)
        return Figures(
            false_alarms=self._false_alarms,
            detection_delay=int(alarm["detail"]["n_seen"]) - self._drift_position,
            retrained=True,
            promoted=promoted,
            accuracy_steady=measure([answer for answer in answers if answer.position < self._drift_position]),
            accuracy_before=measure([answer for answer in drifted if answer.position < first]),
            accuracy_after=measure(_by_champion(drifted, candidate)),
            failed_requests=len(self._traffic.failures),
        )

    def _close(self, figures: Figures) -> str | None:
        reason = why_not_closed(figures)
        self._write_summary(
            {
                "closed": reason is None,
                "reason": reason,
                "seed": self._options.seed,
                "false_alarms_before_drift": figures.false_alarms,
                "detection_delay_predictions": figures.detection_delay,
                "accuracy_steady": figures.accuracy_steady.value,
                "accuracy_drifted_before": figures.accuracy_before.value,
                "accuracy_drifted_after": figures.accuracy_after.value,
                "messages_sent": len(self._traffic.answers),
                "failed_requests": figures.failed_requests,
            }
        )
        self._display.chapter("What the loop won")
        self._display.table(
            ("", "accuracy"),
            [
                ("before the drift", str(figures.accuracy_steady)),
                ("drifted traffic, old model", f"[red]{figures.accuracy_before}"),
                ("drifted traffic, new model", f"[green]{figures.accuracy_after}"),
            ],
        )
        return reason

    def _write_summary(self, values: Mapping[str, Any]) -> None:
        seconds = {"stage_seconds": self._display.seconds, "total_seconds": sum(self._display.seconds.values())}
        self._options.summary.write_text(json.dumps({**values, **seconds}, indent=2) + "\n")

    async def _until(
        self, condition: Callable[[], Awaitable[Any]], what: str, stage: Stage, *, patience: float | None = None
    ) -> Any:
        """Poll until `condition` gives something true; its value. Raises LeewayError when patience (seconds) ends."""
        patience = self._options.patience if patience is None else patience
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            self._backstage.check_alive()
            if found := await condition():
                return found
            if asyncio.get_running_loop().time() > deadline:
                raise LeewayError(f"waited {patience:.0f} s in vain: {what or 'the rollout ends'}")
            if what:
                stage.show(f"{what}  ({len(self._traffic.answers)} answered, {self._traffic.waiting} to come)")
            await asyncio.sleep(0.25)

    async def _alive(self) -> bool:
        return await self._answers("/v2/health/live")

    async def _ready(self) -> bool:
        return await self._answers(f"/v2/models/{MODEL}/ready")

    async def _answers(self, path: str) -> bool:
        try:
            await self._api.get(path)
        except LeewayError:
            return False
        return True

    async def _all_sent(self) -> bool:
        return self._traffic.waiting == 0

    async def _alarms(self) -> list[dict[str, Any]]:
        alerts = (await self._api.get("/v1/alerts", model=MODEL))["alerts"]
        return [alert for alert in alerts if alert["name"] in ("drift", "quality", "calibration")]

    async def _drift_alert(self) -> dict[str, Any] | None:
        return next((alert for alert in await self._alarms() if alert["name"] == "drift"), None)

    async def _received_by_webhook(self) -> bool:
        return any(alert["alert"] == "drift" for alert in self._backstage.alerts)

    async def _retrainings(self) -> list[dict[str, Any]]:
        """Jobs, newest first. A recalibration is no retraining: it stands in nobody's way."""
        jobs = (await self._api.get("/v1/jobs", model=MODEL))["jobs"]
        return [job for job in jobs if job["cause"] != RetrainCause.CALIBRATION]

    async def _retrained(self) -> list[dict[str, Any]]:
        """Versions, newest first, with the first one and without recalibrations."""
        versions = (await self._api.get("/v1/versions", model=MODEL))["versions"]
        return [version for version in versions if version["lineage"].get("cause") != RetrainCause.CALIBRATION]

    async def _approve(self, candidate: str, reason: str) -> None:
        await self._api.post(f"/v1/versions/{candidate}/approve", {"reason": reason})

    async def _ask(self, candidate: str, stage: Stage) -> None:
        """Wait for `y` on the terminal or for a decision on the console, whichever comes first."""
        pressed: asyncio.Event = asyncio.Event()
        loop = asyncio.get_running_loop()
        terminal = sys.stdin.isatty()
        if terminal:
            loop.add_reader(sys.stdin, lambda: pressed.set() if sys.stdin.readline().strip().lower() == "y" else None)

        async def decided() -> str | None:
            if pressed.is_set():
                await self._approve(candidate, "approved at the terminal")
            version = await self._api.get(f"/v1/versions/{candidate}")
            return None if version["stage"] == "awaiting_approval" else str(version["stage"])

        try:
            if await self._until(decided, "press y, Enter", stage, patience=math.inf) == "rejected":
                raise LeewayError("you rejected the candidate: the old model goes on serving")
        finally:
            if terminal:
                loop.remove_reader(sys.stdin)


def _by_champion(answers: list[Answer], version: str) -> list[Answer]:
    return [answer for answer in answers if answer.version == version and answer.variant == "production"]


def _changes(candidate: Mapping[str, Any]) -> str:
    changes = candidate["evidence"].get("changes", {})
    added = ", ".join(changes.get("classes_added", [])) or "none"
    return f"{changes.get('new_labels', 0)} new labels, new classes: {added}"
