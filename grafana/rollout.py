"""Rollout: what the candidate does otherwise than the champion, and how sure that is; candidate minus champion."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from grafana.board import ROLLOUT, board
from grafana.meanings import PHASES
from grafana.panels import BAD, BUSY, QUIET, WATCH, Panel, listing, number, series, states_over_time
from grafana.queries import (
    MODEL,
    VERSION,
    Query,
    by_state,
    growth,
    ledger,
    limit,
    mean,
    quantile,
    ratio,
    select,
    total_rate,
)

ANSWERS = "leeway_prediction_duration_seconds"
CANDIDATE, CHAMPION = 'variant="candidate"', 'variant="production"'
OF_A_ROLLOUT = "model, candidate, champion, phase"
SHADOW = 'variant="shadow"'
HARMS = 'test=~"errors|latency|sample_ratio"'


def dashboard() -> builders.Dashboard:
    """Leeway / Rollout."""
    return board(
        ROLLOUT,
        "The candidate beside the champion, in shadow and A/B: every difference is candidate minus champion.",
        {
            "Where it stands": _state(),
            "Verdict by labels": _verdict(),
            "Guardrails": _guardrails(),
            "Live, candidate minus champion": _live(),
        },
    )


def _state() -> list[Panel]:
    return [
        states_over_time(
            "Phase",
            "Phase of each model's open rollout. Inconclusive: it is paused until a person decides.",
            [Query(by_state("leeway_rollout_phase", "phase", PHASES), "{{model}}")],
            PHASES,
        ),
        series(
            "Traffic share",
            "Share of callers' answers that each version gives, as routed. A shadow's answers reach no caller.",
            [
                Query(
                    f"avg by (version, variant) ({select('leeway_traffic_share', MODEL, VERSION)})",
                    "{{version}} {{variant}}",
                )
            ],
            unit="percentunit",
            maximum=1,
            stacked=True,
        ),
        listing(
            "Newest rollout",
            "Of each model: who is or was tried against whom, and how it stands or ended.",
            Query(ledger("leeway_rollout_info", MODEL, by=OF_A_ROLLOUT), format="table", instant=True),
            columns=["model", "candidate", "champion", "phase"],
        ),
        series(
            "Step",
            "Step of the open rollout: -1 is shadow, 0 the first share of traffic.",
            [Query(ledger("leeway_rollout_step", MODEL), "{{model}}")],
            unit="short",
            minimum=-1,
        ),
        series(
            "Time in this step",
            "How long the open rollout has been in its step. By default it pauses and asks after a week.",
            [Query(f"time() - {ledger('leeway_rollout_step_started_timestamp_seconds', MODEL)}", "{{model}}")],
            unit="s",
            limits=[(5 * 86_400, WATCH), (7 * 86_400, BAD)],
        ),
        series(
            "Rollouts ended",
            "Rollouts that ended in the last hour: successful is a promotion, failed a rollback.",
            [
                Query(
                    f"max by (model, phase) (increase({select('leeway_rollouts_total', MODEL)}[1h]))",
                    "{{model}} {{phase}}",
                )
            ],
            unit="short",
            reach=1,
        ),
    ]


def _verdict() -> list[Panel]:
    return [
        series(
            "Accuracy",
            "Candidate minus champion on matured, labelled units, with anytime-valid bounds (dashed): paired in "
            "shadow, unpaired in A/B. Both bounds on one side of 0, and it is proven.",
            [Query(ledger("leeway_rollout_difference", MODEL, by="model, bound"), "{{model}} {{bound}}")],
            unit="percentunit",
            minimum=None,
            limits=[(0, BUSY)],
            dashed="/ (low|high)$/",
        ),
        series(
            "Evidence",
            "Log e-values that the candidate is better, and that it does harm. At the red line either is proven.",
            [
                Query(
                    ledger("leeway_rollout_log_evidence", MODEL, 'test=~"better|harm"', by="model, test"),
                    "{{model}} {{test}}",
                ),
                Query(limit("rollout_log_evidence"), "proven"),
            ],
            unit="none",
            minimum=None,
            bound="/^proven$/",
        ),
        series(
            "Labelled units of the step",
            "Matured units (callers' keys) with a label, by arm. A step may end when both arms reach the red line.",
            [
                Query(ledger("leeway_rollout_units", MODEL, by="model, arm"), "{{model}} {{arm}}"),
                Query(limit("step_units"), "needed in A/B"),
            ],
            unit="short",
            bound="/^needed/",
        ),
    ]


def _guardrails() -> list[Panel]:
    def guardrail(measure: str) -> str:
        return ledger("leeway_rollout_guardrail", MODEL, f'measure="{measure}"', by="model, bound")

    margin = f"-{limit('guardrail_margin')}"
    return [
        series(
            "Requests that did not fail",
            "Candidate minus champion, with anytime-valid bounds (dashed). Wholly below the red line, it is over.",
            [Query(guardrail("errors"), "{{model}} {{bound}}"), Query(margin, "tolerated")],
            unit="percentunit",
            minimum=None,
            dashed="/ (low|high)$/",
            bound="/^tolerated$/",
        ),
        series(
            "Requests that were not slow",
            "Candidate minus champion, with anytime-valid bounds (dashed); in A/B alone, since nobody waits for a "
            "shadow. Wholly below the red line, the rollout ends.",
            [Query(guardrail("latency"), "{{model}} {{bound}}"), Query(margin, "tolerated")],
            unit="percentunit",
            minimum=None,
            dashed="/ (low|high)$/",
            bound="/^tolerated$/",
        ),
        series(
            "Evidence of harm",
            "Log e-values of more failures, more slow answers, and of units that were not assigned as stated. At the "
            "red line it is proven.",
            [
                Query(
                    ledger("leeway_rollout_log_evidence", MODEL, HARMS, by="model, test"),
                    "{{model}} {{test}}",
                ),
                Query(limit("guardrail_log_evidence"), "proven"),
            ],
            unit="none",
            minimum=None,
            bound="/^proven$/",
        ),
    ]


def _live() -> list[Panel]:
    agreeing = total_rate("leeway_shadow_pairs_total", MODEL, VERSION, 'agree="true"', by="model, version")
    pairs = total_rate("leeway_shadow_pairs_total", MODEL, VERSION, by="model, version")
    return [
        series(
            "Shadow agreement",
            "Share of shadowed texts on which candidate and champion give the same label. A retrained model should "
            "differ, but by as much as it is better.",
            [Query(ratio(agreeing, pairs), "{{version}}")],
            unit="percentunit",
            maximum=1,
        ),
        series(
            "Mean confidence",
            "Of each version's live answers, in whatever part; a candidate that is better should be surer, too.",
            [Query(mean("leeway_confidence", MODEL, VERSION, by="version"), "{{version}}")],
            unit="percentunit",
            minimum=None,
            maximum=1,
        ),
        series(
            "Latency, candidate minus champion",
            "Difference of the median and the 95th percentile of the time to an answer, in A/B. Above 0 the candidate "
            "is slower.",
            [
                Query(f"{_latency(0.5, CANDIDATE)} - {_latency(0.5, CHAMPION)}", "{{model}} p50"),
                Query(f"{_latency(0.95, CANDIDATE)} - {_latency(0.95, CHAMPION)}", "{{model}} p95"),
            ],
            unit="s",
            minimum=None,
            limits=[(0, BUSY)],
        ),
        series(
            "Failures, candidate minus champion",
            "Difference of the shares of texts without an answer, in A/B. The caller of a failed candidate is answered "
            "by the champion.",
            [Query(f"{_failures(CANDIDATE)} - {_failures(CHAMPION)}", "{{model}}")],
            unit="percentunit",
            minimum=None,
            reach=0.01,
            limits=[(0, BUSY)],
        ),
        series(
            "Shadow copies",
            "Texts that the candidate answered silently, and copies dropped because the machine was busy.",
            [
                Query(total_rate("leeway_predictions_total", MODEL, VERSION, SHADOW, by="version"), "{{version}}"),
                Query(total_rate("leeway_shadow_dropped_total", MODEL, by="model"), "{{model}} dropped"),
            ],
            unit="cps",
        ),
        number(
            "Shadow agreement, all of it",
            "Over the time shown: share of shadowed texts with the same label from both.",
            Query(
                ratio(
                    growth("leeway_shadow_pairs_total", MODEL, VERSION, 'agree="true"', by="version"),
                    growth("leeway_shadow_pairs_total", MODEL, VERSION, by="version"),
                ),
                "{{version}}",
            ),
            unit="percentunit",
            base=WATCH,
            limits=[(0.5, QUIET)],
            width=8,
            height=8,
        ),
    ]


def _latency(q: float, variant: str) -> str:
    return quantile(q, ANSWERS, MODEL, variant, by="model")


def _failures(variant: str) -> str:
    """Share of texts without an answer; 0 where all were answered."""
    answered = total_rate("leeway_predictions_total", MODEL, variant, by="model")
    failed = total_rate("leeway_prediction_errors_total", MODEL, variant, by="model")
    every = f"(({answered} or 0 * {failed}) + ({failed} or 0 * {answered}))"
    return ratio(f"({failed} or 0 * {answered})", every)
