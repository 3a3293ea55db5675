from __future__ import annotations

import numpy as np
import pytest

from dqnkit._system.tensorflow import categorical_dqn_agent, tf
from dqnkit.agents.categorical import project


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("low", "high", "count"), [(-10.0, 10.0, 51), (0.0, 99.3, 2), (-3, 5, 17)])
def test_the_projection_equals_that_of_tf_agents_and_preserves_probability(
    low: float, high: float, count: int, jit_compile: bool
) -> None:
    rng = np.random.default_rng(0)
    support = np.linspace(low, high, count, dtype=np.float32)
    probabilities = rng.dirichlet(np.ones(count), size=40).astype(np.float32)
    rewards = rng.normal(0.0, high - low, size=(40, 1)).astype(np.float32)
    discounts = rng.choice(np.float32([0.0, 0.5, 0.99, 1.0]), size=(40, 1))
    returns = rewards + discounts * support
    ours = tf.function(project, jit_compile=jit_compile)(
        tf.constant(returns), tf.constant(probabilities), support
    )
    theirs = categorical_dqn_agent.project_distribution(
        tf.constant(returns), tf.constant(probabilities), tf.constant(support)
    )
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    np.testing.assert_allclose(tf.reduce_sum(ours, axis=1), 1.0, rtol=1e-5)
    # The projection preserves the mean where no return is clipped.
    inside = ((returns >= low) & (returns <= high)).all(axis=1)
    means = (returns * probabilities).sum(axis=1)
    assert inside.any()
    np.testing.assert_allclose((ours @ support[:, None])[:, 0][inside], means[inside], atol=1e-3)
