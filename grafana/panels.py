"""The kinds of panels that the dashboards are made of. Each has a title, a description, a unit and limits of its own:
nothing is left to Grafana's defaults, whose threshold of 80 means nothing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as commons
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models import prometheus as prometheus_models

from grafana.queries import Query

Panel = timeseries.Panel | stat.Panel | bargauge.Panel | heatmap.Panel | statetimeline.Panel | table.Panel
Limit = tuple[float, str]  # from this value on, this colour
State = tuple[str, str]  # text, colour

DATASOURCE = commons.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT, TALL = 8, 8, 12
QUIET, BUSY, WATCH, BAD, FAINT = "green", "blue", "orange", "red", "#8e8e8e"


def series(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    limits: Sequence[Limit] = (),
    width: int = WIDTH,
    minimum: float | None = 0,
    maximum: float | None = None,
    stacked: bool = False,
    dashed: str = "",
    bound: str = "",
    many: bool = False,
    reach: float | None = None,
    logarithmic: bool = False,
    tall: bool = False,
) -> timeseries.Panel:
    """Values over time. `limits` are dashed lines; series whose names match `dashed` are drawn thin, dashed and grey,
    those that match `bound`, a limit that is queried, in red instead. `many`: their names stand in a list beside them;
    `reach`: where the axis ends at least; `logarithmic`: where sizes differ too much for a common scale.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_targets(queries))
        .unit(unit)
        .thresholds(_thresholds(limits))
        .thresholds_style(
            common.GraphThresholdsStyleConfig().mode(
                commons.GraphThresholdsStyleMode.DASHED if limits else commons.GraphThresholdsStyleMode.OFF
            )
        )
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .draw_style(commons.GraphDrawStyle.LINE)
        .line_width(1 if stacked else 2)
        .fill_opacity(35 if stacked else 0)
        .show_points(commons.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(commons.StackingMode.NORMAL if stacked else commons.StackingMode.NONE))
        .legend(_legend(commons.LegendPlacement.RIGHT if many else commons.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(commons.TooltipDisplayMode.MULTI).sort(commons.SortOrder.DESCENDING))
        .span(width)
        .height(TALL if tall else HEIGHT)
    )
    if minimum is not None:
        panel = panel.min(minimum)
    if maximum is not None:
        panel = panel.max(maximum)
    if reach is not None:
        panel = panel.axis_soft_max(reach)
    if logarithmic:
        panel = panel.scale_distribution(common.ScaleDistributionConfig().type(commons.ScaleDistribution.LOG).log(10))
    thin = {"custom.lineStyle": {"fill": "dash", "dash": [6, 6]}, "custom.lineWidth": 1}
    grey, red = ({"color": {"mode": "fixed", "fixedColor": color}} for color in (FAINT, BAD))
    for names, look in ((dashed, thin | grey), (bound, thin | red)):
        if names:
            values = [models.DynamicConfigValue(id_val=name, value=value) for name, value in look.items()]
            panel = panel.override_by_regexp(names, values)
    return panel


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    limits: Sequence[Limit] = (),
    base: str = QUIET,
    states: Mapping[int, State] | None = None,
    width: int = 4,
    height: int = 4,
) -> stat.Panel:
    """The newest value, large; several series stand side by side under their names."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_targets([query]))
        .unit(unit)
        .thresholds(_thresholds(limits, base))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(commons.BigValueColorMode.VALUE)
        .graph_mode(commons.BigValueGraphMode.NONE if states else commons.BigValueGraphMode.AREA)
        .text_mode(commons.BigValueTextMode.VALUE_AND_NAME if "{{" in query.legend else commons.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value("nothing yet")
        .span(width)
        .height(height)
    )
    return panel.mappings([_mapping(states)]) if states else panel


def states_over_time(
    title: str,
    description: str,
    queries: Sequence[Query],
    states: Mapping[int, State],
    *,
    width: int = WIDTH,
    tall: bool = False,
) -> statetimeline.Panel:
    """Which of a few states held when, a row for each series."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_targets(queries))
        .unit("none")
        .thresholds(_thresholds(()))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .mappings([_mapping(states)])
        .merge_values(True)
        .show_value(commons.VisibilityMode.AUTO)
        .align_value(commons.TimelineValueAlignment.LEFT)
        .row_height(0.8)
        .fill_opacity(70)
        .line_width(0)
        .legend(_legend(commons.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(commons.TooltipDisplayMode.SINGLE).sort(commons.SortOrder.NONE))
        .no_value("nothing yet")
        .span(width)
        .height(TALL if tall else HEIGHT)
    )


def bars(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    limits: Sequence[Limit] = (),
    base: str = QUIET,
    minimum: float | None = 0,
    maximum: float | None = None,
    width: int = WIDTH,
    tall: bool = False,
) -> bargauge.Panel:
    """The newest value of each series as a bar, to be compared with its neighbours."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_targets([query]))
        .unit(unit)
        .thresholds(_thresholds(limits, base))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .display_mode(commons.BarGaugeDisplayMode.BASIC)
        .orientation(commons.VizOrientation.HORIZONTAL)
        .value_mode(commons.BarGaugeValueMode.TEXT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .no_value("nothing yet")
        .span(width)
        .height(TALL if tall else HEIGHT)
    )
    if minimum is not None:
        panel = panel.min(minimum)
    return panel if maximum is None else panel.max(maximum)


def distribution(title: str, description: str, query: Query, *, unit: str, width: int = WIDTH) -> heatmap.Panel:
    """How a histogram's observations spread, over time."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_targets([query]))
        .unit(unit)
        .thresholds(_thresholds(()))
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmaps.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmaps.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(commons.AxisPlacement.LEFT))
        .cell_gap(1)
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .show_legend()
        .tooltip(heatmap.HeatmapTooltip().mode(commons.TooltipDisplayMode.SINGLE).y_histogram(True))
        .span(width)
        .height(HEIGHT)
    )


def listing(
    title: str,
    description: str,
    query: Query,
    *,
    columns: Sequence[str],
    value: str = "",
    unit: str = "none",
    width: int = WIDTH,
    tall: bool = False,
) -> table.Panel:
    """The series that hold now, a row each, with these labels as columns; with their values in a column `value`."""
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_targets([query]))
        .unit(unit)
        .thresholds(_thresholds(()))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True, "Value": not value},
                    "indexByName": {name: position for position, name in enumerate(columns)},
                    "renameByName": {"Value": value} if value else {},
                },
            )
        )
        .show_header(True)
        .no_value("nothing yet")
        .span(width)
        .height(TALL if tall else HEIGHT)
    )


def _legend(placement: commons.LegendPlacement) -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(commons.LegendDisplayMode.LIST)
        .placement(placement)
        .calcs([])
    )


def _targets(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [_target(query, chr(ord("A") + position)) for position, query in enumerate(queries)]


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    target = (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .format(prometheus_models.PromQueryFormat(query.format))
        .ref_id(ref)
    )
    return target.instant() if query.instant else target.range()


def _thresholds(limits: Sequence[Limit], base: str = QUIET) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=base)]
    steps += [models.Threshold(value=value, color=color) for value, color in limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(states: Mapping[int, State]) -> models.ValueMap:
    return models.ValueMap(
        options={
            str(value): models.ValueMappingResult(text=text, color=color, index=position)
            for position, (value, (text, color)) in enumerate(states.items())
        }
    )
