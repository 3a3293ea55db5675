"""One of dqnkit's loops at a contest's work, with the tutorial's settings.

Prints one JSON document.
Updates are as many as the steps of one environment: 16 steps are followed by 16 updates, one step
of 8 environments by 8.
"""

from __future__ import annotations

import argparse
import json
import time

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.runs.components import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="CartPole-v0")
    parser.add_argument("--loop", default="graph", choices=["graph", "host"])
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps")
    parser.add_argument("--num-envs", type=int, default=1)
    parser.add_argument("--train-freq", type=int, default=1, help="steps before each training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()

    steps_an_iteration = args.num_envs * args.train_freq
    config, spec = resolve(
        loading.load(
            "tutorial",
            [
                f"env.id={args.env}",
                f"env.num_envs={args.num_envs}",
                f"training.loop={args.loop}",
                f"training.collect_steps_per_iteration={args.train_freq}",
                f"training.gradient_steps_per_iteration={steps_an_iteration}",
                *args.set,
            ],
        )
    )
    start = time.perf_counter()
    loop = build(config, spec).loop
    loop.start()
    compile_seconds = time.perf_counter() - start
    loop.advance(-(-1_000 // config.steps_per_iteration))
    iterations = -(-args.steps // config.steps_per_iteration)
    before, start = loop.env_steps, time.perf_counter()
    loop.advance(iterations)
    seconds = time.perf_counter() - start
    document = {
        "steps_per_second": (loop.env_steps - before) / seconds,
        "updates_per_second": iterations * config.training.gradient_steps_per_iteration / seconds,
        "compile_seconds": compile_seconds,
    }
    loop.close()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
