from __future__ import annotations

import math

import numpy as np
import pytest

from dqnkit.envs.vector import Step
from dqnkit.loops.base import IntervalMetrics, IntervalSums
from dqnkit.loops.episode_stats import EndedEpisode, EpisodeStats, HostInterval


def _step(reward: list[float], *, ends: str = "--", reset: str = "--") -> Step:
    """Return a step of two environments.

    Args:
      reward: Rewards of both.
      ends: One letter per environment: "t" if its episode terminates, "c" if it is truncated.
      reset: One letter per environment: "r" if the step was a reset.
    """
    return Step(
        stepped=np.array([each != "r" for each in reset]),
        frame=np.zeros((2, 1)),
        reward=np.float32(reward),
        terminated=np.array([each == "t" for each in ends]),
        truncated=np.array([each == "c" for each in ends]),
        started=np.array([each == "r" for each in reset]),
    )


def test_returns_and_lengths_are_those_of_each_environment() -> None:
    stats = EpisodeStats(2)
    assert stats.add(_step([1.0, 10.0])) == []
    assert stats.add(_step([2.0, 20.0], ends="t-")) == [EndedEpisode(3.0, 2.0)]
    assert stats.add(_step([4.0, 40.0], ends="tc")) == [
        EndedEpisode(4.0, 1.0),
        EndedEpisode(70.0, 3.0),
    ]


def test_a_reset_is_no_step_of_an_episode() -> None:
    """Gymnasium's mode NEXT_STEP leaves any values in the fields of a reset."""
    stats = EpisodeStats(2)
    stats.add(_step([1.0, 1.0], ends="t-"))
    assert stats.add(_step([100.0, 1.0], ends="t-", reset="r-")) == []
    assert stats.add(_step([2.0, 1.0], ends="tt")) == [
        EndedEpisode(2.0, 1.0),
        EndedEpisode(3.0, 3.0),
    ]


def test_an_interval_returns_means() -> None:
    interval = HostInterval(updates=4, loss=6.0, steps=8, exploration=2.0)
    interval.add_episodes([EndedEpisode(3.0, 2.0), EndedEpisode(6.0, 4.0)])
    interval.add_episodes([])
    interval.add_episodes([EndedEpisode(0.0, 6.0)])
    assert interval.metrics(10, 30) == IntervalMetrics(
        iteration=10,
        env_steps=30,
        loss=1.5,
        exploration=0.25,
        episodes=3,
        return_mean=3.0,
        length_mean=4.0,
    )


def test_means_over_nothing_are_nan() -> None:
    metrics = HostInterval().metrics(10, 30)
    assert (metrics.iteration, metrics.env_steps, metrics.episodes) == (10, 30, 0)
    for name in ("loss", "exploration", "return_mean", "length_mean"):
        assert math.isnan(getattr(metrics, name))


def test_an_interval_is_restored_from_its_arrays() -> None:
    interval = HostInterval(updates=1, loss=0.1, steps=3, exploration=0.5, returns=-7.25)
    arrays = interval.arrays()
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    assert HostInterval.from_arrays(arrays) == interval
    del arrays["lengths"]
    with pytest.raises(KeyError):
        HostInterval.from_arrays(arrays)


def test_sums_of_both_loops_have_the_same_fields() -> None:
    """Checkpoints name them, and `IntervalSums` takes them by position."""
    from dqnkit.loops.graph import GraphInterval

    fields = IntervalSums._fields[2:]
    assert tuple(vars(HostInterval())) == GraphInterval._fields == fields
