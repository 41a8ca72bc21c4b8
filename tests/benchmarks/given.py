"""What the benches are given on the command line, and where they build."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "bench"


def parser_of(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser that knows `--data`, which is common to all."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--data", type=Path, help="folder of banking77.parquet and clinc150.parquet")
    return parser


def folder_of(data: Path | None) -> Path:
    """Where what is made of that material is kept."""
    return BUILD / ("own" if data is None else "data")


def names_among(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads comma-separated names, or none; one that is not known is an error."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name and name != "none")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return names

    return read
