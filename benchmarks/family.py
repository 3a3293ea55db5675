"""The agents that the benchmarks set beside each other: one switch each, and all together."""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """An experiment of plain DQN, and what RL Baselines3 Zoo publishes for its own."""

    env_id: str
    env_steps: int
    """The budget, the same for both."""
    zoo: str
    """Mean and deviation of the episodes of its agent, https://github.com/DLR-RM/rl-baselines3-zoo."""
    experiment: str
    rainbow: str
    """The experiment of all switches together."""


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
"""What is set on top of a task's experiment, or of any other of a DQN."""
RAINBOW = "rainbow-lite"
"""All of them together but Boltzmann exploration, with settings of their own."""
TOGETHER = (
    *("agent.kind=double_c51", "agent.n_step=3"),
    *("network.dueling=true", "replay.kind=prioritized"),
)


def work(variant: str, task: Task) -> tuple[str, tuple[str, ...]]:
    """The experiment and the assignments of a variant on a task."""
    if variant == RAINBOW:
        return task.rainbow, ()
    return task.experiment, VARIANTS[variant]
