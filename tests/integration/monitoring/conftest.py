"""Two toy models, made once, and a world in which the first of them serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from monitoring.core.bundle import Bundle
from tests.bundles import LABELS, make_bundle
from tests.conftest import FrozenClock
from tests.integration.monitoring.world import MODEL, World, settings_for


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model that serves."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "first", model=MODEL, rows=800)


@pytest.fixture(scope="session")
def next_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model that replaces it and knows the new topic."""
    folder = tmp_path_factory.mktemp("bundles") / "next"
    return make_bundle(folder, model=MODEL, rows=800, labels=(*LABELS, "returns"), seed=8)


@pytest.fixture
def world(home: Path, clock: FrozenClock, rng: np.random.Generator, bundle: Bundle) -> Iterator[World]:
    """One model in production."""
    with closing(World(home, clock, rng, settings_for(home))) as world:
        world.approve(world.register(bundle))
        yield world
