"""Measure what the checks of an environment's results cost in the host loop.

    uv run python benchmarks/checks.py [--rounds 5]

Rounds with and without the checks alternate in one process: without them, `CheckedEnv` passes on
what the environment returns, and the vector looks at no float.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from dqnkit.config import loading
from dqnkit.envs.checks import CheckedEnv
from dqnkit.envs.resolution import resolve
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.runs.components import make_host_loop

ITERATIONS = 4_000


def _pass_on(env: CheckedEnv, action: object) -> object:
    return env.env.step(action)


def seconds(env_id: str, num_envs: int, *, is_checked: bool) -> float:
    """Return the time of an iteration of the host loop."""
    originals = CheckedEnv.step, VectorEnvironment._check
    if not is_checked:
        CheckedEnv.step = _pass_on  # type: ignore[assignment, method-assign]
        VectorEnvironment._check = lambda *_: None  # type: ignore[method-assign]
    try:
        overrides = ["training.loop=host", f"env.num_envs={num_envs}", f"env.id={env_id}"]
        config, spec = resolve(loading.load("tutorial", overrides))
        loop = make_host_loop(config, spec)
        loop.start()
        loop.advance(500)
        start = time.perf_counter()
        loop.advance(ITERATIONS)
        elapsed = time.perf_counter() - start
        loop.close()
    finally:
        CheckedEnv.step, VectorEnvironment._check = originals  # type: ignore[method-assign]
    return elapsed / ITERATIONS


def main() -> None:
    """Print the cost for some environments and numbers of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for env_id in ("CartPole-v1", "LunarLander-v3"):
        for num_envs in (1, 8):
            pairs = [
                [seconds(env_id, num_envs, is_checked=on) for on in (True, False)]
                for _ in range(rounds)
            ]
            with_checks, without = np.median(np.array(pairs), axis=0) * 1e6
            share = np.median([on / off - 1 for on, off in pairs])
            print(
                f"{env_id}, {num_envs} environments: {with_checks:.1f} microseconds an iteration "
                f"with the checks, {without:.1f} without, {share:+.1%}"
            )


if __name__ == "__main__":
    main()
