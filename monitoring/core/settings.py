"""All settings, read once at start: defaults, then `leeway.toml` in the home folder, then `LEEWAY_…` variables.

`LEEWAY_MONITOR__WINDOW_SIZE=500` overrides `window_size` in the section `[monitor]`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from monitoring.core.cron import read_cron
from monitoring.core.errors import MisConfigured
from monitoring.core.faults import one_line, tell
from monitoring.core.types import Severity
from monitoring.core.variables import PREFIX, find_strangers, nearest_key

CONFIG_FILE = "leeway.toml"


class Section(BaseModel):
    """A table of `leeway.toml`; a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """The HTTP server and the inference engine."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="also answer the Open Inference Protocol over gRPC there; needs leeway[grpc]"
    )
    threads: int = Field(0, ge=0, description="inference threads; 0: as many as the process may use")
    queue_size: int = Field(1024, ge=1, description="texts waiting for inference before requests are refused")
    max_batch: int = Field(32, ge=1, le=1024, description="texts in one model call")
    max_batch_tokens: int = Field(
        512, ge=1, description="tokens in one model call, padding included; more is no faster, and takes memory"
    )
    deadline_seconds: float = Field(10.0, gt=0)
    max_texts: int = Field(64, ge=1, description="texts in one request")
    max_text_bytes: int = Field(32_768, ge=1, description="UTF-8 bytes of one text")
    max_body_bytes: int = Field(2_097_152, ge=1)
    max_bodies_bytes: int = Field(134_217_728, ge=1, description="all bodies under way; more is refused with 429")
    top_k: int = Field(3, ge=1)
    shadow_queue_size: int = Field(256, ge=1)
    reconcile_seconds: float = Field(0.5, gt=0, description="how often the engine reads which versions should serve")
    session_hours: float = Field(8.0, gt=0, description="how long a console login lasts")


class LogSettings(Section):
    """The prediction log: spool and Delta table."""

    text: Literal["store", "hash", "off"] = "store"
    spool_max_bytes: int = Field(1_073_741_824, ge=1_048_576)
    spool_segment_bytes: int = Field(4_194_304, ge=4096)
    spool_fsync: bool = False
    ship_seconds: float = Field(2.0, gt=0)
    retention_days: int = Field(90, ge=1)
    counted_per_minute: int = Field(30, ge=1, description="rows of one client that always count as evidence")
    repeats_per_hour: int = Field(
        5, ge=1, description="rows of a client with the same text that always count as evidence"
    )
    counted_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="share of what has counted in that minute or hour since their first that they may make up",
    )


class MonitorSettings(Section):
    """How a served model is judged."""

    host: str = "127.0.0.1"
    port: int = Field(9108, ge=0, le=65535, description="where the monitor's gauges are scraped")
    interval_seconds: float = Field(10.0, gt=0)
    window_size: int = Field(500, ge=50, description="predictions in one test window")
    false_alarms_per_year: float = Field(1.0, gt=0)
    predictions_per_day: int = Field(
        10_000, ge=1, description="expected traffic; turns the yearly budget into thresholds"
    )
    sequential_share: float = Field(
        0.4, gt=0, lt=1, description="share of the budget that the per-prediction detector spends"
    )
    label_share: float = Field(
        0.2, gt=0, lt=1, description="share that the tests on labels spend; the windows spend what is left"
    )
    leeway: float = Field(
        0.1, gt=0, le=1, description="tolerated shift (Jensen-Shannon or Kolmogorov-Smirnov distance)"
    )
    tolerated_loss: float = Field(
        0.03, gt=0, lt=1, description="accuracy points that may be lost before drift is harmful"
    )
    profile_days: int = Field(
        400, ge=1, description="how long the profiles of judged windows are kept, for reports on past spans"
    )
    slices: tuple[str, ...] = Field(
        (),
        max_length=50,
        description='parts of the traffic to judge by themselves, by request metadata: "channel=chat", or "channel" '
        "for each of its values; 50 in all",
    )
    seed: int = 20240

    @model_validator(mode="after")
    def _windows_have_a_share(self) -> Self:
        if self.sequential_share + self.label_share >= 1:
            raise ValueError(
                f"sequential_share {self.sequential_share} and label_share {self.label_share} leave nothing of the "
                "budget to the windows: their sum must be below 1"
            )
        return self

    @field_validator("slices")
    @classmethod
    def _named_slices(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        if any(not entry.partition("=")[0] for entry in slices) or len(set(slices)) < len(slices):
            raise ValueError('must be different metadata keys or key=value, for example ["channel", "language=de"]')
        return slices


class LabelSettings(Section):
    """Which answers people are asked to label."""

    random_share: float = Field(
        0.1, gt=0, le=1, description="chance of each answer to be asked for at random; recorded with its label"
    )


class RetrainSettings(Section):
    """When a retraining is asked for, and how it is run."""

    min_new_labels: int = Field(
        200, ge=1, description="labels of the drifted traffic that each retraining for drift needs"
    )
    label_volume: int | None = Field(None, ge=1, description="retrain once so many labels came since the last one")
    cron: str | None = Field(None, description="retrain on this schedule (five cron fields, UTC)")
    cooldown_hours: float = Field(24.0, ge=0)
    new_class_examples: int = Field(20, ge=2, description="labels of an unknown class before retraining adds it")
    holdout_fraction: float = Field(0.3, gt=0, lt=1, description="share of the recent units kept out of training")
    recipe: Literal["head", "lora", "full"] = "head"
    lease_seconds: float = Field(30.0, gt=0)
    max_attempts: int = Field(3, ge=1)

    @field_validator("cron")
    @classmethod
    def _readable_schedule(cls, cron: str | None) -> str | None:
        if cron is not None:
            read_cron(cron)
        return cron


class GateSettings(Section):
    """What a retrained model must show before a person is asked."""

    old_margin: float = Field(0.02, ge=0, lt=1, description="accuracy that may be lost on the old hold-out")
    recent_gain: float = Field(0.0, ge=0, lt=1, description="accuracy to be gained on recent labelled data")
    min_recent: int = Field(50, ge=1, description="outcome-blind recent labels the gate needs")
    max_calibration_error: float = Field(0.08, gt=0, lt=1, description="debiased ECE on the hold-outs")
    min_agreement: float = Field(0.995, gt=0, le=1, description="labels on which the artefact must agree with torch")
    max_accuracy_loss: float = Field(0.003, ge=0, lt=1, description="accuracy that the artefact may lose beside torch")
    max_batch_dependence: float = Field(0.02, gt=0, lt=1, description="top-1 probability shift by batchmates")
    max_size_mb: float = Field(600.0, gt=0)
    max_latency_ratio: float = Field(1.5, gt=0, description="candidate's latency over the champion's, side by side")


class RolloutSettings(Section):
    """Approval, shadow, A/B steps, promotion and the watch after it."""

    approval_hours: float = Field(72.0, gt=0, description="an approval expires unless its rollout has begun by then")
    steps: tuple[float, ...] = (0.1, 0.25, 0.5)
    step_min_units: int = Field(50, ge=1, description="labelled units of each arm before a step may end")
    shadow_min_units: int = Field(50, ge=1)
    maturation_seconds: float = Field(86_400.0, ge=0, description="how long a unit's labels are waited for")
    max_step_hours: float = Field(168.0, gt=0, description="a step without a verdict by then pauses and asks a person")
    alpha: float = Field(0.05, gt=0, lt=0.5)
    guardrail_alpha: float = Field(0.01, gt=0, lt=0.5)
    guardrail_margin: float = Field(0.02, ge=0, lt=1, description="share of failed or slow requests that may be added")
    margin: float = Field(0.0, ge=0, lt=1, description="accuracy that a candidate may lose and still be promoted")
    latency_slo_ms: float = Field(200.0, gt=0)
    watch_hours: float = Field(72.0, ge=0, description="how long the old version stays warm after a promotion")
    controller_seconds: float = Field(5.0, gt=0)

    @field_validator("steps")
    @classmethod
    def _rising_shares(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if not steps or any(not 0 < share < 1 for share in steps) or list(steps) != sorted(steps):
            raise ValueError("must be rising traffic shares between 0 and 1, for example [0.1, 0.25, 0.5]")
        return steps


class AlertSettings(Section):
    """Where alerts go when Leeway itself sends them."""

    webhook_url: str | None = None
    notify: tuple[SecretStr, ...] = Field(
        (), description='further receivers, as addresses of Apprise: "slack://…", "mailto://…", "pagerduty://…"'
    )
    notify_file: Path | None = Field(None, description="a file with more of them, one a line, such as a mounted secret")
    notify_severity: Severity = Field(Severity.WARNING, description="they hear of nothing less severe")
    group_seconds: float = Field(
        10.0, ge=0, le=600, description="how long they wait for what belongs together, to be told at once"
    )
    timeout_seconds: float = Field(5.0, gt=0)
    console_url: str = "http://127.0.0.1:8080/console"

    @field_validator("notify", mode="before")
    @classmethod
    def _one_or_many(cls, notify: Any) -> Any:
        """A single address need not be a list; what is neither is refused without being told: it may be a secret."""
        if isinstance(notify, str):
            return (notify,)
        return notify if isinstance(notify, list | tuple) else [str(notify)]


class Settings(BaseSettings):
    """Everything that can be set. `home` holds all state of the embedded default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path = Path(".leeway")
    database_url: str = ""
    storage_url: str = ""
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    monitor: MonitorSettings = MonitorSettings()
    labels: LabelSettings = LabelSettings()
    retrain: RetrainSettings = RetrainSettings()
    gates: GateSettings = GateSettings()
    rollout: RolloutSettings = RolloutSettings()
    alerts: AlertSettings = AlertSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is passed in wins, then the environment, then the file."""
        toml = TomlConfigSettingsSource(settings_cls, home_folder() / CONFIG_FILE)
        return (init_settings, env_settings, toml)

    @property
    def ledger_url(self) -> str:
        """The database's URL; a SQLite file in the home folder unless set."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'ledger.db'}"

    @property
    def store_url(self) -> str:
        """The fsspec URL of bundles, reports and snapshots."""
        return self.storage_url or str(self.home.absolute() / "storage")

    @property
    def log_url(self) -> str:
        """The Delta table of predictions."""
        return f"{self.store_url.rstrip('/')}/predictions"

    @property
    def spool_dir(self) -> Path:
        """Always a local folder."""
        return self.home.absolute() / "spool"

    @property
    def cache_dir(self) -> Path:
        """Bundles unpacked for local use."""
        return self.home.absolute() / "cache"


def home_folder() -> Path:
    """Where settings and state live: `LEEWAY_HOME`, else `.leeway` in the working directory."""
    return Path(os.environ.get("LEEWAY_HOME", ".leeway"))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings, turning every fault into one readable MisConfigured."""
    _refuse_strangers()
    try:
        return Settings(**({"home": home_folder()} | overrides))
    except ValidationError as error:
        names = [".".join(map(str, fault["loc"])) for fault in error.errors()]
        faults = "; ".join(map(_tell_setting, names, error.errors()))
        raise MisConfigured(
            f"settings in {home_folder() / CONFIG_FILE} or LEEWAY_…: {faults}", field=names[0]
        ) from error
    except SettingsError as error:  # a variable of a section or list that is not JSON
        raise MisConfigured(f"settings in LEEWAY_…: {error}: it must be JSON, as in [0.1, 0.25]") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MisConfigured(f"{home_folder() / CONFIG_FILE} is not valid TOML: {error}") from error


def variables() -> list[str]:
    """The variable of every setting, and those that hold a whole section as JSON."""
    found: list[str] = []
    for name, field in Settings.model_fields.items():
        variable, section = f"{PREFIX}{name.upper()}", field.annotation
        found.append(variable)
        if isinstance(section, type) and issubclass(section, Section):
            found += [f"{variable}__{key.upper()}" for key in section.model_fields]
    return found


def _tell_setting(name: str, error: Mapping[str, Any]) -> str:
    """What is wrong with a setting; a misspelt one with the nearest right one."""
    nearest = nearest_key(name, variables()) if error["type"] == "extra_forbidden" else None
    return tell(name, error) if nearest is None else f"{one_line(name)} is no setting: did you mean {nearest}?"


def _refuse_strangers() -> None:
    strangers = find_strangers(os.environ, variables())
    if strangers:
        faults = "; ".join(
            f"{name} is no setting: " + (f"did you mean {nearest}?" if nearest else "unset it, or see leeway.toml")
            for name, nearest in strangers.items()
        )
        raise MisConfigured(f"settings in LEEWAY_…: {faults}", field=next(iter(strangers)))
