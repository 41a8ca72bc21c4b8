"""The set-up keeps its promises: everything is pinned, and the pure statistics stay pure."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
DIRECT = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
    if not line.startswith("leeway[")
]


def test_the_lock_holds_nothing_but_exact_versions() -> None:
    assert [pin for pin in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin)] == []


def test_the_lock_pins_each_package_once_and_no_cuda() -> None:
    names = [canonicalize_name(pin.split("==")[0]) for pin in PINS]
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith(("nvidia", "cuda", "triton"))] == []


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_direct_dependency_is_locked_to_a_version_it_allows(requirement: Requirement) -> None:
    versions = {canonicalize_name(name): Version(version) for name, version in (pin.split("==") for pin in PINS)}
    assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_statistics_import_numpy_and_scipy_only() -> None:
    graph = grimp.build_graph("monitoring", include_external_packages=True)
    modules = {"monitoring.stats"} | graph.find_descendants("monitoring.stats")
    imported = set().union(*(graph.find_modules_directly_imported_by(module) for module in modules)) - modules
    assert {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names} <= {"numpy", "scipy"}
