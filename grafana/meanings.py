"""What numbers mean, wherever a dashboard shows them: the objectives, the limits of alerts, the names of states."""

from __future__ import annotations

from grafana.panels import BAD, BUSY, QUIET, WATCH

LATENCY_OBJECTIVE = 0.2  # seconds; rollout.latency_slo_ms
ERROR_BUDGET, SLOW_BUDGET = 0.001, 0.01  # shares of requests
REFUSED_TICKET, REFUSED_PAGE = 0.05, 0.5  # shares of the requests for predictions
TICKET, PAGE = 3.0, 6.0  # burn rates at which alerts come: over a day, over six hours
STALE, LOST = 60.0, 300.0  # seconds without a look; the second is the alert's limit
LAGGING = 600.0  # seconds until the prediction log's lag is an alert
HOUR = 3600.0
TOLERATED_LOSS = 0.03  # accuracy points; monitor.tolerated_loss
CALIBRATION_GATE = 0.08  # gates.max_calibration_error

FIRING = {0: ("quiet", QUIET), 1: ("firing", BAD)}
PHASES = {1: ("pending", BUSY), 2: ("running", QUIET), 3: ("inconclusive", WATCH)}
VERDICTS = {-1: ("inconclusive", BUSY), 0: ("stable", QUIET), 1: ("notice", WATCH), 2: ("drift", BAD)}
SIGNAL_STATES = {0: ("as ever", QUIET), 1: ("moved", WATCH), 2: ("beyond its leeway", BAD)}
GATES = {0: ("failed", BAD), 1: ("passed", QUIET)}
UP = {0: ("down", BAD), 1: ("up", QUIET)}
