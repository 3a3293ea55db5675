"""Measures two inner parts of an update under XLA, beside their alternatives.

    uv run python benchmarks/kernels.py

The parts are the sum tree of prioritized replay, with 100,000 leaves and several numbers of
children per node, and C51's projection, with 51 atoms and beside that of TF-Agents. Prints
microseconds per batch of 64 inside a compiled loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import report

from dqnkit._system.tensorflow import Tensor, categorical_dqn_agent, tf
from dqnkit.agents.categorical import project
from dqnkit.replay import graph_sum_tree

BATCH, LEAVES, ATOMS = 64, 100_000, 51
FAN_OUTS = (2, 4, 8, 16, 32, 64)
REPEATS, ROUNDS = 2_000, 9


def microseconds(step: Callable[[Tensor, Any], Any], state: Any) -> float:
    """Return the least time of `step(number, state)` in a loop that passes the state on."""

    @tf.function(jit_compile=True, autograph=False)
    def loop(state: Any) -> Any:
        return tf.while_loop(
            lambda i, _: i < REPEATS, lambda i, s: (i + 1, step(i, s)), (tf.constant(0), state)
        )[1]

    def run() -> float:
        start = time.perf_counter()
        tf.nest.flatten(loop(state))[0].numpy()
        return time.perf_counter() - start

    run()
    return min(run() for _ in range(ROUNDS)) / REPEATS * 1e6


def tree(fan_out: int) -> float:
    """Return the time to sample a batch and to set new priorities for it."""
    graph_sum_tree.FAN_OUT = fan_out
    tree = graph_sum_tree.GraphSumTree(LEAVES)
    rng = np.random.default_rng(0)
    levels = tree.set(
        tree.initial_state(), tf.range(LEAVES), tf.constant(rng.random(LEAVES), tf.float32)
    )

    def step(i: Tensor, levels: Any) -> Any:
        numbers = tf.random.stateless_uniform([2 * BATCH], tf.stack([i, i]), alg="philox")
        shares = tf.cast(numbers[:BATCH], tf.float64)
        return tree.set(levels, tree.query(levels, shares), numbers[BATCH:])

    return microseconds(step, levels)


def projection(function: Callable[..., Tensor]) -> float:
    """Return the time to project a batch of distributions onto the support."""
    support = tf.linspace(0.0, 100.0, ATOMS)
    rng = np.random.default_rng(0)
    probabilities = tf.constant(rng.dirichlet(np.ones(ATOMS), BATCH), tf.float32)

    def step(i: Tensor, probabilities: Tensor) -> Tensor:
        del i
        returns = probabilities[:, :1] + 0.99 * support
        return function(returns, probabilities, support)

    return microseconds(step, probabilities)


def main() -> None:
    report.make_parser(__doc__).parse_args()
    print(f"{report.machine()}; microseconds")
    for fan_out in FAN_OUTS:
        print(f"sum tree, {fan_out:>2} children per node {tree(fan_out):>8.1f}")
    tf_agents = categorical_dqn_agent.project_distribution
    print(f"projection of TF-Agents         {projection(tf_agents):>8.1f}")
    print(f"projection of dqnkit            {projection(project):>8.1f}")


if __name__ == "__main__":
    main()
