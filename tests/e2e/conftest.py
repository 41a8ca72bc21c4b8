"""Real processes on a real home folder; none outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.processes import Role

Start = Callable[..., Role]

collect_ignore = ["clients"]  # scripts of an environment of their own: what they import is not here


@pytest.fixture
def role() -> Iterator[Start]:
    """Start a role: `role("serve", "--port", "0")`."""
    started: list[Role] = []

    def start(*arguments: str) -> Role:
        started.append(Role(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.clean_up()
