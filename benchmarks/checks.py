"""Measure what the checks of an environment's results cost in the host loop.

    uv run python benchmarks/checks.py [--pairs 100]

Short blocks of iterations with and without the checks alternate in one run. Without them,
`CheckedEnv` passes on what the environment returns, and the vector looks at no float.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator

import numpy as np

from dqnkit.config import loading
from dqnkit.envs.checks import CheckedEnv
from dqnkit.envs.resolution import resolve
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.loops.host import HostLoop
from dqnkit.runs.components import make_host_loop

BLOCK = 200
"""Iterations of a block, which takes a tenth of a second: the machine changes little meanwhile."""


def _pass_on(env: CheckedEnv, action: object) -> object:
    return env.env.step(action)


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Leave out the checks in the body."""
    originals = CheckedEnv.step, VectorEnvironment._check
    CheckedEnv.step = _pass_on  # type: ignore[assignment, method-assign]
    VectorEnvironment._check = lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        CheckedEnv.step, VectorEnvironment._check = originals  # type: ignore[method-assign]


def seconds(loop: HostLoop) -> float:
    """Return the time of an iteration."""
    start = time.perf_counter()
    loop.advance(BLOCK)
    return (time.perf_counter() - start) / BLOCK


def measure(env_id: str, num_envs: int, pairs: int) -> np.ndarray:
    """Return times of an iteration with and without checks, [pairs, 2]."""
    overrides = ["training.loop=host", f"env.num_envs={num_envs}", f"env.id={env_id}"]
    config, spec = resolve(loading.load("tutorial", overrides))
    loop = make_host_loop(config, spec)
    loop.start()
    loop.advance(2 * BLOCK)
    times = []
    for _ in range(pairs):
        checked = seconds(loop)
        with unchecked():
            times.append((checked, seconds(loop)))
    loop.close()
    return np.array(times)


def main() -> None:
    """Print the cost for some environments and numbers of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=100)
    pairs = parser.parse_args().pairs
    for env_id in ("CartPole-v1", "LunarLander-v3"):
        for num_envs in (1, 8):
            times = measure(env_id, num_envs, pairs)
            with_checks, without = np.median(times, axis=0) * 1e6
            # Interference only adds time: the fastest quarter of the blocks had little of it.
            low = np.quantile(times, 0.25, axis=0)
            print(
                f"{env_id}, {num_envs} environments: {with_checks:.1f} microseconds an iteration "
                f"with the checks, {without:.1f} without; {low[0] / low[1] - 1:+.1%} in the "
                "lower quartiles"
            )


if __name__ == "__main__":
    main()
