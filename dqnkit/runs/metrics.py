"""Metric names and values that a run logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from dqnkit.config.sections import Config
from dqnkit.errors import TrainingDivergedError
from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.loops.base import IntervalMetrics
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.names import EVAL, FINAL, TIME, TRAIN, Metric

_LARGE_OBSERVATION = 1e3
"""Magnitude of observations above which they are the likely cause of divergence."""
_LARGE_REWARD = 1e4
"""Mean magnitude of the rewards of a step above which they are the likely cause of divergence."""


def interval_metrics(
    config: Config,
    interval: IntervalMetrics,
    steps_per_second: float,
    magnitudes: Callable[[], Mapping[str, float]] = dict,
) -> dict[str, float]:
    """Return the metrics of one log interval.

    Args:
      config: Configuration of the run.
      interval: The log interval.
      steps_per_second: Environment steps per second of training.
      magnitudes: `Loop.observation_magnitudes`, called if training has diverged.

    Raises:
      TrainingDivergedError: If the loss is infinite or NaN although there were updates.
    """
    _check_loss(config, interval, magnitudes)
    return {
        f"{TRAIN}/loss": interval.loss,
        f"{TRAIN}/{config.exploration.parameter}": interval.exploration,
        f"{TRAIN}/return_mean": interval.return_mean,
        f"{TRAIN}/length_mean": interval.length_mean,
        f"{TRAIN}/episodes": float(interval.episodes),
        f"{TRAIN}/steps_per_second": steps_per_second,
    }


def evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics of one evaluation during training."""
    summary = evaluation.summary
    return {
        f"{EVAL}/return_mean": summary.mean,
        f"{EVAL}/return_std": summary.std,
        f"{EVAL}/return_min": summary.min,
        f"{EVAL}/return_max": summary.max,
        f"{EVAL}/return_iqm": summary.iqm,
        f"{EVAL}/length_mean": float(np.mean(evaluation.lengths)),
    }


def episode_metrics(prefix: str, episodes: Episodes) -> dict[str, float]:
    """Return statistics of episodes as metrics `PREFIX/return_mean` and so on."""
    summary = episodes.summary
    bounds = dict(zip(("low", "high"), episodes.interval or (), strict=False))
    return {
        f"{prefix}/return_mean": summary.mean,
        f"{prefix}/return_std": summary.std,
        f"{prefix}/return_min": summary.min,
        f"{prefix}/return_max": summary.max,
        f"{prefix}/return_median": summary.median,
        f"{prefix}/return_iqm": summary.iqm,
        **{f"{prefix}/return_ci_{name}": value for name, value in bounds.items()},
        f"{prefix}/length_mean": float(np.mean(episodes.lengths)),
        f"{prefix}/length_min": float(np.min(episodes.lengths)),
        f"{prefix}/length_max": float(np.max(episodes.lengths)),
        f"{prefix}/episodes": float(summary.n),
    }


def final_metrics(result: TrainResult) -> dict[str, float]:
    """Return the metrics of a run at its end."""
    final = episode_metrics(FINAL, result.final) if result.final else {}
    return final | {
        Metric.LATE_IQM: result.late.summary.iqm,
        Metric.LATE_EPISODES: float(result.late.summary.n),
        Metric.TOTAL_SECONDS: result.seconds,
        f"{TIME}/compile_seconds": result.compile_seconds,
        Metric.TRAINING_SECONDS: result.training_seconds,
        Metric.STEPS_PER_SECOND: result.steps_per_second,
        f"{TIME}/checkpoint_seconds": result.checkpoint_seconds,
    }


def _check_loss(
    config: Config, interval: IntervalMetrics, magnitudes: Callable[[], Mapping[str, float]]
) -> None:
    if config.training.gradient_steps_per_iteration == 0 or math.isfinite(interval.loss):
        return
    huber = "" if config.agent.is_categorical else ", or use agent.loss=huber"
    began = max(0, interval.iteration - config.training.log_interval)
    advice = f"lower optimizer.learning_rate or set agent.gradient_clipping{huber}"
    name, size = max(magnitudes().items(), key=lambda each: each[1], default=("", 0.0))
    if size > _LARGE_OBSERVATION:
        which = f" in {name!r}" if name else ""
        advice = (
            f"observations of about {size:.3g}{which} are too large for a network's inputs: scale "
            "them by a gymnasium.ObservationWrapper of your own in env.wrappers, or, if they are a "
            "Box with bounds, by gymnasium.wrappers.RescaleObservation"
        )
    reward = abs(interval.return_mean) / max(interval.length_mean, 1.0)
    if reward > _LARGE_REWARD or math.isinf(interval.return_mean):
        advice = (
            f"rewards of about {reward:.3g} a step are too large for a network's outputs: clip "
            "them by gymnasium.wrappers.ClipReward in env.wrappers, or divide them by a wrapper of "
            "your own"
        )
    raise TrainingDivergedError(
        f"the loss became {interval.loss} between iterations {began:,} and "
        f"{interval.iteration:,} (environment step {interval.env_steps:,}); {advice}"
    )
