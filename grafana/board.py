"""What all dashboards share: variables, annotations, links, and the grid."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana.panels import BAD, BUSY, DATASOURCE, WATCH, Panel
from grafana.queries import MODEL, ledger, select

OVERVIEW = "leeway-overview"
SERVING = "leeway-serving"
DRIFT = "leeway-drift"
CALIBRATION = "leeway-calibration"
ROLLOUT = "leeway-rollout"
RETRAINING = "leeway-retraining"
MONITORING = "leeway-monitoring"
TITLES = MappingProxyType(
    {
        OVERVIEW: "Overview",
        SERVING: "Serving",
        DRIFT: "Drift and quality",
        CALIBRATION: "Calibration",
        ROLLOUT: "Rollout",
        RETRAINING: "Retraining",
        MONITORING: "Monitoring itself",
    }
)
CONSOLE = "http://127.0.0.1:8080/console"
RUNBOOKS = "/public/runbooks/README.md"  # Grafana itself serves docs/runbooks there, see docker-compose.yml
STEP_SECONDS = 60
ANNOTATION_STEP = f"{STEP_SECONDS}s"

Rows = Mapping[str, Sequence[Panel]]


def board(uid: str, description: str, rows: Rows) -> dashboard.Dashboard:
    """A dashboard with `rows`; panels are numbered as they stand, and a line of them is 24 columns wide."""
    made = (
        dashboard.Dashboard(f"Leeway / {TITLES[uid]}")
        .uid(uid)
        .description(description)
        .tags(["leeway"])
        .readonly()
        .time("now-6h", "now")
        .timezone("browser")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
    )
    for variable in _variables():
        made = made.with_variable(variable)
    for annotation in _annotations():
        made = made.annotation(annotation)
    for link in _links(uid):
        made = made.link(link)
    number = 0
    for row, panels in rows.items():
        number += 1
        made = made.with_row(dashboard.Row(row).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(panel.id(number))
    return made


def as_json(made: dashboard.Dashboard) -> str:
    """The dashboard as Grafana is provisioned with it."""
    plain = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for link in plain["links"]:
        del link["placement"]  # the builder can only hide links in a menu
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _variables() -> Iterable[dashboard.DatasourceVariable | dashboard.QueryVariable]:
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    # one metric that every serving process has, and one that every monitor has
    leeway = '{__name__=~"leeway_build_info|leeway_monitor_up"}'
    yield _choice("job", "Job", f"label_values({leeway}, job)")
    yield _choice("instance", "Instance", f'label_values({leeway[:-1]}, job=~"$job"}}, instance)')
    yield _choice("model", "Model", f"label_values({select('leeway_model_stage')}, model)")
    yield _choice("version", "Version", f"label_values({select('leeway_model_stage', MODEL)}, version)")


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _annotations() -> Iterable[dashboard.AnnotationQuery]:
    firing = f"{ledger('leeway_alert_active', MODEL, by='model, name')} == 1"
    yield _annotation("Alarms", BAD, firing, title="{{name}}", text="{{model}}")
    champion = select("leeway_model_stage", MODEL, 'stage="production"')
    before = f"({champion} offset {ANNOTATION_STEP})"  # after a gap nobody knows whether it was a promotion
    promoted = (
        f"max by (model, version) ({champion}) unless max by (model, version) {before} "
        f"and on (model) max by (model) {before}"
    )
    yield _annotation("Promotions", BUSY, promoted, title="promoted", text="{{version}}")
    since = ledger("leeway_baseline_timestamp_seconds", MODEL, by="model, version")
    changed = f"time() - {since} < {2 * STEP_SECONDS}"
    yield _annotation(
        "Baseline changes", WATCH, changed, title="judged anew", text="against the baseline of {{version}}"
    )


def _annotation(name: str, color: str, expr: str, *, title: str, text: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(expr)
        .step(ANNOTATION_STEP)
        .title_format(title)
        .text_format(text)
        .tag_keys("model")
    )


def _links(uid: str) -> Iterable[dashboard.DashboardLink]:
    for other, title in TITLES.items():
        if other != uid:
            yield _link(title, f"/d/{other}", icon="dashboard").include_vars(True).keep_time(True)
    yield _link("Console", CONSOLE, icon="external link").target_blank(True)
    yield _link("Runbooks", RUNBOOKS, icon="doc").target_blank(True)


def _link(title: str, url: str, *, icon: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url).icon(icon).tooltip(title)
