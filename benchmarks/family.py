"""The agents that the benchmarks set beside each other: one switch each, and all together."""

from __future__ import annotations

from typing import NamedTuple


class Task(NamedTuple):
    """An experiment of plain DQN, and what RL Baselines3 Zoo publishes for its own."""

    experiment: str
    rainbow: str
    """The experiment of all switches together."""
    env_id: str
    env_steps: int
    """The budget, the same for both."""
    zoo: float
    """Mean return of its trained agent, https://github.com/DLR-RM/rl-baselines3-zoo."""


TASKS = (
    Task("cartpole-50k", "rainbow-lite-cartpole", "CartPole-v1", 50_000, 500.0),
    Task("acrobot-100k", "rainbow-lite-acrobot", "Acrobot-v1", 100_000, -76.6),
    Task("mountain-car-120k", "rainbow-lite-mountain-car", "MountainCar-v0", 120_000, -100.8),
)

VARIANTS: dict[str, tuple[str, ...]] = {
    "DQN": (),
    "double": ("agent.kind=double_dqn",),
    "dueling": ("network.dueling=true",),
    "3 steps": ("agent.n_step=3",),
    "prioritized": ("replay.kind=prioritized",),
    "C51": ("agent.kind=c51",),
}
"""What is set on top of a task's experiment, or of any other of a DQN."""
RAINBOW = "rainbow-lite"
"""All of them together, with settings of their own."""
TOGETHER = (
    *("agent.kind=double_c51", "agent.n_step=3"),
    *("network.dueling=true", "replay.kind=prioritized"),
)


def work(variant: str, task: Task) -> tuple[str, tuple[str, ...]]:
    """The experiment and the assignments of a variant on a task."""
    if variant == RAINBOW:
        return task.rainbow, ()
    return task.experiment, VARIANTS[variant]
