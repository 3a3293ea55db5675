"""Two inner parts of an update under XLA, and what they were chosen over.

uv run python benchmarks/kernels.py

The sum tree of prioritized replay by children a node, 100,000 leaves; C51's projection with 51
atoms beside TF-Agents' own. Batches of 64; microseconds inside a compiled loop.
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
REPEATS, ROUNDS = 2_000, 9


def microseconds(step: Callable[[Tensor, Any], Any], state: Any) -> float:
    """Least time of a step of (number, state), each of which takes up the last one's state."""

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
    """A draw of a batch, and new priorities for it."""
    graph_sum_tree.FAN_OUT = fan_out
    tree = graph_sum_tree.GraphSumTree(LEAVES)
    rng = np.random.default_rng(0)
    levels = tree.put(
        tree.initial_state(), tf.range(LEAVES), tf.constant(rng.random(LEAVES), tf.float32)
    )

    def step(i: Tensor, levels: Any) -> Any:
        numbers = tf.random.stateless_uniform([2 * BATCH], tf.stack([i, i]), alg="philox")
        shares = tf.cast(numbers[:BATCH], tf.float64)
        return tree.put(levels, tree.find(levels, shares), numbers[BATCH:])

    return microseconds(step, levels)


def projection(function: Callable[..., Tensor]) -> float:
    support = tf.linspace(0.0, 100.0, ATOMS)
    rng = np.random.default_rng(0)
    probabilities = tf.constant(rng.dirichlet(np.ones(ATOMS), BATCH), tf.float32)

    def step(i: Tensor, probabilities: Tensor) -> Tensor:
        del i
        returns = probabilities[:, :1] + 0.99 * support
        return function(returns, probabilities, support)

    return microseconds(step, probabilities)


def main() -> None:
    print(f"{report.machine()}; microseconds")
    for fan_out in (2, 4, 8, 16, 32, 64):
        print(f"sum tree, {fan_out:>2} children a node {tree(fan_out):>8.1f}")
    theirs = categorical_dqn_agent.project_distribution
    print(f"projection by TF-Agents       {projection(theirs):>8.1f}")
    print(f"projection as products        {projection(project):>8.1f}")


if __name__ == "__main__":
    main()
