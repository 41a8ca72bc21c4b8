"""Which `LEEWAY_…` variables mean something: a misspelt one is an error, not a silent default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

PREFIX = "LEEWAY_"
OTHERS = frozenset(
    {
        "LEEWAY_API_KEY",  # whose key the commands use
        "LEEWAY_ALERTMANAGER_CONFIG",  # docker-compose.yml reads these
        "LEEWAY_NOTIFIERS_FILE",
        "LEEWAY_PG_SERVICE_FILE",
        "LEEWAY_POSTGRES_PASSWORD_FILE",
        "LEEWAY_REQUIRE_SERVERS",  # and the tests the rest
        "LEEWAY_TEST_DATABASE_URL",
        "LEEWAY_TOOLS",
    }
)
"""Variables that are no settings."""
SERVICE_LINK = re.compile(r"LEEWAY_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
LINKED_PORT = re.compile(r"(tcp|udp|sctp)://")
LIKENESS = 0.5


def find_strangers(environment: Mapping[str, str], settings: Iterable[str]) -> dict[str, str | None]:
    """Variables of ours that are neither among `settings` nor known otherwise: each with the nearest right one.

    What Kubernetes sets for a service named `leeway` is nobody's mistake. Case does not matter.
    """
    known = {*settings, *OTHERS}
    ours = {name: name.upper() for name in environment if name.upper().startswith(PREFIX)}
    return {
        name: _nearest(upper, known)
        for name, upper in sorted(ours.items())
        if upper not in known and not _is_link(upper, environment[name])
    }


def nearest_key(key: str, settings: Iterable[str]) -> str | None:
    """The key of leeway.toml that is most like `key`, as in `monitor.window_size`; `settings`: all variables.

    >>> nearest_key("monitor.windw_size", ["LEEWAY_MONITOR", "LEEWAY_MONITOR__WINDOW_SIZE"])
    'monitor.window_size'
    """
    found = _nearest(PREFIX + key.upper().replace(".", "__"), settings)
    return None if found is None else found.removeprefix(PREFIX).lower().replace("__", ".")


def _is_link(name: str, value: str) -> bool:
    return bool(SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and LINKED_PORT.match(value)))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """By its whole name, or by that of the setting alone, where the section was forgotten or is another one."""
    wanted = name.removeprefix(PREFIX)
    bare = sorted(one.removeprefix(PREFIX) for one in known)
    namesakes = [one for one in bare if "__" in one and one.rpartition("__")[2] == wanted.rpartition("__")[2]]
    found = get_close_matches(wanted, namesakes, n=1, cutoff=0.0) or get_close_matches(wanted, bare, 1, LIKENESS)
    return PREFIX + found[0] if found else None
