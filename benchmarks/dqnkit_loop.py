"""dqnkit's graph loop at the tutorial's work. Prints one JSON document."""

from __future__ import annotations

import argparse
import json
import time

from dqnkit import experiments
from dqnkit.envs import registry
from dqnkit.training.graph_loop import GraphLoop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=50_000)
    args = parser.parse_args()

    config = experiments.load("tutorial")
    start = time.perf_counter()
    loop = GraphLoop(config, registry.make(config.env.id))
    loop.start()
    compile_seconds = time.perf_counter() - start
    loop.advance(1_000)
    start = time.perf_counter()
    loop.advance(args.iterations)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "iterations_per_second": args.iterations / seconds,
                "compile_seconds": compile_seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
