"""Serving measured: beside the engine's own limit, with and without watching, and beside the peers.

python -m tests.benchmarks.serving [--data FOLDER] [--seconds S] [--peers NAMES]

Tables on standard output, progress on standard error; the last line is one JSON object. The load comes from the same
cores, so with few of them it takes a part of what it measures, from every server alike.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from monitoring.core import bundle as bundles
from monitoring.core.bundle import Bundle
from monitoring.core.cores import usable_cores
from monitoring.core.errors import LeewayError
from tests.benchmarks.given import BUILD, folder_of, names_among, parser_of
from tests.benchmarks.material import read_material
from tests.benchmarks.serving import peers, tables
from tests.benchmarks.serving.limit import FP32, Limit, trust
from tests.benchmarks.serving.loads import Row, bear, of_limit, overhead
from tests.benchmarks.serving.ours import Home
from tests.benchmarks.serving.peers import PEERS, Variant
from tests.benchmarks.serving.pressure import overload, swap
from tests.benchmarks.serving.running import NotStarted, Running
from tests.benchmarks.serving.texts import messages
from tests.benchmarks.trained import train

RATE_OF_LIMIT = 0.4
TURNS = 3
OVERLOAD_OF = 15
"""Times the seconds of any other load: a minute where they are 4."""
LIMIT_AT = (64, 256)


def main() -> None:
    """Measure and print."""
    given = arguments()
    try:
        print_measured(given)
    except (LeewayError, NotStarted, OSError, RuntimeError) as error:
        sys.exit(f"bench-serving: {error}")


def print_measured(given: argparse.Namespace) -> None:
    """The whole run."""
    material = read_material(given.data)
    home = Home(train(material, folder_of(given.data)))
    tokenizer = Tokenizer.from_file(str(home.bundle.path(bundles.TOKENIZER)))
    texts = messages([text for text, _ in material.pool], tokenizer)
    cores = usable_cores()
    tell("in process")
    limit = Limit(home.bundle, texts, threads=cores, most_tokens=home.settings.server.max_batch_tokens)
    alone_ms = limit.alone_ms()
    rate = RATE_OF_LIMIT * max(limit.by_batch.values())
    with home.serving(texts) as ours:
        tell("Leeway")
        row = bear(f"Leeway, everything on, {home.bundle.config.precision}", ours, seconds=given.seconds, rate=rate)
        ratios = {callers: of_limit(ours, limit, callers, seconds=given.seconds, turns=TURNS) for callers in LIMIT_AT}
        with home.unwatched(texts) as unwatched:
            tell("watched and not, in turns")
            cost = overhead(ours, unwatched, rate=rate, seconds=given.seconds, turns=2 * TURNS)
        tell("swaps under load")
        swapped = swap(ours, home.bundle, home.settings, folder=home.folder / "copies", seconds=given.seconds)
        tell("overload")
        overloaded = overload(ours, peak=row.closed[64].texts_per_second, seconds=OVERLOAD_OF * given.seconds)
        measured = tables.Measured(
            cores=cores,
            precision=home.bundle.config.precision,
            by_batch=limit.by_batch,
            alone_ms=alone_ms,
            trust=trust(home.bundle, texts),
            ours=row,
            limit_ratios=ratios,
            overhead=cost,
            swapped=swapped,
            overloaded=overloaded,
            **beside(given.peers, ours, home.bundle, texts, cores=cores, seconds=given.seconds, rate=rate),
        )
    print(tables.report(measured))
    print(json.dumps(tables.summary(measured)))


def beside(
    names: Sequence[str],
    ours: Running,
    bundle: Bundle,
    texts: Sequence[str],
    *,
    cores: int,
    seconds: float,
    rate: float,
) -> dict[str, dict[str, list[Row]] | dict[str, Row]]:
    """The peers' rows: every variant on the served model, then each peer's best on fp32."""

    def play(variant: Variant, file: str) -> Row:
        name = f"{variant}, {Path(file).stem.removeprefix('model.')}"
        tell(name)
        try:
            with peers.serving(variant, bundle, file, texts, BUILD) as server:
                return bear(name, server, seconds=seconds, rate=rate, ours=ours)
        except NotStarted as error:
            return Row(name, {}, missing=str(error))

    found, in_fp32 = {}, {}
    for peer in names:
        ways = peers.variants(peer, cores)
        found[peer] = [play(variant, bundle.config.model_file) for variant in ways]
        best = tables.best_of(found[peer])
        if best is not None and bundle.config.precision != FP32:
            in_fp32[peer] = play(ways[found[peer].index(best)], f"model.{FP32}.onnx")
    return {"peers": found, "in_fp32": in_fp32}


def tell(stage: str) -> None:
    """Progress."""
    print(f"{stage} ...", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """What `make bench-serving` passes on."""
    parser = parser_of("bench-serving", "Measure serving, beside the peers.")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load (default 4)")
    parser.add_argument(
        "--peers", type=names_among(PEERS), default=PEERS, help="comma-separated, or none (default all)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
