"""Agents that the benchmarks compare: DQN, each of its extensions alone, and all together."""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """An environment with the experiments that train in it, and RL Baselines3 Zoo's score."""

    env_id: str
    env_steps: int
    """Number of environment steps, the same as in Zoo."""
    zoo: str
    """Mean and standard deviation of the episodes of Zoo's DQN, as published at
    https://github.com/DLR-RM/rl-baselines3-zoo."""
    experiment: str
    """Experiment of plain DQN."""
    rainbow: str
    """Experiment of `RAINBOW`."""


TASKS = {
    "cartpole": Task("CartPole-v1", 50_000, "500.0 ± 0.0", "cartpole-50k", "rainbow-lite-cartpole"),
    "acrobot": Task("Acrobot-v1", 100_000, "-76.6 ± 11.8", "acrobot-100k", "rainbow-lite-acrobot"),
    "mountain-car": Task(
        "MountainCar-v0", 120_000, "-100.8 ± 9.9", "mountain-car-120k", "rainbow-lite-mountain-car"
    ),
}

VARIANTS: dict[str, tuple[str, ...]] = {
    "DQN": (),
    "double": ("agent.kind=double_dqn",),
    "C51": ("agent.kind=c51",),
    "double C51": ("agent.kind=double_c51",),
    "dueling": ("network.dueling=true",),
    "3 steps": ("agent.n_step=3",),
    "prioritized": ("replay.kind=prioritized",),
    "Boltzmann": ("exploration.policy=boltzmann",),
}
"""Assignments that turn an experiment of plain DQN into the variant, by name."""
RAINBOW = "rainbow-lite"
"""Name of the variant with all extensions except Boltzmann exploration, which has experiments of
its own."""
RAINBOW_ASSIGNMENTS = (
    *("agent.kind=double_c51", "agent.n_step=3"),
    *("network.dueling=true", "replay.kind=prioritized"),
)


def experiment_of(variant: str, task: Task) -> tuple[str, tuple[str, ...]]:
    """Return the experiment and the assignments that train a variant on a task."""
    if variant == RAINBOW:
        return task.rainbow, ()
    return task.experiment, VARIANTS[variant]
