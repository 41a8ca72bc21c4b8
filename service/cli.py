"""The commands that the service brings to `leeway`. Modules that take time to import are imported inside of them."""

from __future__ import annotations

import click

from service.cli_load import load
from service.cli_operate import approve, candidates, recalibrate, reject, retrain, rollback
from service.cli_rollout import rollout
from service.cli_serve import serve
from service.demo.command import demo
from service.up import up

commands: list[click.Command] = [
    serve,
    up,
    load,
    candidates,
    approve,
    reject,
    rollout,
    rollback,
    retrain,
    recalibrate,
    demo,
]
