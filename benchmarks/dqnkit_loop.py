"""Measures one of dqnkit's training loops with the settings of the TF-Agents tutorial.

Called by `speed.py`. Trains once per environment step on average: 16 steps are followed by 16
updates, and one step of 8 environments by 8. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.runs.components import make_components

WARM_UP_STEPS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="CartPole-v0", help="id of the environment")
    parser.add_argument("--loop", default="graph", choices=["graph", "host"])
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps")
    parser.add_argument("--num-envs", type=int, default=1)
    parser.add_argument("--train-freq", type=int, default=1, help="steps before each training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()

    config, spec = resolve(
        loading.load(
            "tutorial",
            [
                f"env.id={args.env}",
                f"env.num_envs={args.num_envs}",
                f"training.loop={args.loop}",
                f"training.collect_steps_per_iteration={args.train_freq}",
                f"training.gradient_steps_per_iteration={args.num_envs * args.train_freq}",
                *args.set,
            ],
        )
    )
    start = time.perf_counter()
    loop = make_components(config, spec).loop
    loop.start()
    compile_seconds = time.perf_counter() - start
    loop.advance(-(-WARM_UP_STEPS // config.steps_per_iteration))
    iterations = -(-args.steps // config.steps_per_iteration)
    steps_before, start = loop.env_steps, time.perf_counter()
    loop.advance(iterations)
    seconds = time.perf_counter() - start
    document = {
        "steps_per_second": (loop.env_steps - steps_before) / seconds,
        "updates_per_second": iterations * config.training.gradient_steps_per_iteration / seconds,
        "compile_seconds": compile_seconds,
    }
    loop.close()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
