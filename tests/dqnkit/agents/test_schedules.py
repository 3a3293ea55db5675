from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents.schedules import beta_schedule, exploration_schedule
from dqnkit.config.sections import Config

Small = Callable[..., Config]
ASSIGNMENTS = {
    "epsilon_greedy": ["exploration.initial_epsilon=0.8", "exploration.epsilon=0.2"],
    "boltzmann": ["exploration.initial_temperature=0.8", "exploration.temperature=0.2"],
}


@pytest.mark.parametrize("policy", ASSIGNMENTS)
@pytest.mark.parametrize(
    ("schedule", "values"),
    [("linear", [0.8, 0.5, 0.2, 0.2]), ("exponential", [0.8, 0.4, 0.2, 0.2])],
)
def test_exploration_follows_its_schedule(
    small: Small, policy: str, schedule: str, values: list[float]
) -> None:
    config = small(
        f"exploration.policy={policy}",
        f"exploration.schedule={schedule}",
        "exploration.decay_steps=100",
        *ASSIGNMENTS[policy],
    ).exploration
    host, graph = exploration_schedule(config), exploration_schedule(config, tf.minimum)
    for step, value in zip((0, 50, 100, 1_000), values, strict=True):
        assert host(step) == pytest.approx(value)
        assert float(graph(tf.constant(step, tf.float64))) == pytest.approx(value)


def test_a_constant_schedule_has_the_final_value_throughout(small: Small) -> None:
    assert exploration_schedule(small("exploration.epsilon=0.3").exploration)(0) == 0.3
    boltzmann = small("exploration.policy=boltzmann", "exploration.temperature=2")
    assert exploration_schedule(boltzmann.exploration)(10**6) == 2.0


def test_beta_reaches_its_final_value_after_the_training_or_beta_steps(
    small: Small,
) -> None:
    prioritized = ["replay.kind=prioritized", "replay.initial_beta=0.2", "replay.beta=0.8"]
    # 20 initial steps round up to 21 with 3 environments, and 60 iterations take 180.
    whole = beta_schedule(small(*prioritized, "env.num_envs=3"))
    assert [whole(step) for step in (0, 201 / 2, 201, 500)] == pytest.approx([0.2, 0.5, 0.8, 0.8])
    own = beta_schedule(small(*prioritized, "replay.beta_steps=50"))
    assert [own(step) for step in (0, 25, 50, 100)] == pytest.approx([0.2, 0.5, 0.8, 0.8])
