"""What a run measures, by the names that the record has for it."""

from __future__ import annotations

import math

import numpy as np

from dqnkit.config.sections import Config
from dqnkit.errors import TrainingDivergedError
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.loops.base import IntervalMetrics
from dqnkit.runs.result import TrainResult
from dqnkit.tracking.recorded_run import LATE_IQM


def training(config: Config, metrics: IntervalMetrics) -> dict[str, float]:
    """Of a log interval."""
    return {
        "train/loss": metrics.loss,
        f"train/{config.exploration.parameter}": metrics.exploration,
        "train/return_mean": metrics.return_mean,
        "train/length_mean": metrics.length_mean,
        "train/episodes": float(metrics.episodes),
    }


def evaluation(evaluation: Evaluation) -> dict[str, float]:
    """Of an evaluation in the course of training."""
    summary = evaluation.summary
    return {
        "eval/return_mean": summary.mean,
        "eval/return_std": summary.std,
        "eval/return_min": summary.min,
        "eval/return_max": summary.max,
        "eval/return_iqm": summary.iqm,
        "eval/length_mean": float(np.mean(evaluation.lengths)),
    }


def conclusion(result: TrainResult) -> dict[str, float]:
    """Of a run at its end."""
    return result.final.metrics("final") | {
        LATE_IQM: result.late.summary.iqm,
        "late/episodes": float(result.late.summary.n),
        "time/total_seconds": result.seconds,
        "time/compile_seconds": result.compile_seconds,
        "time/training_seconds": result.training_seconds,
        "time/steps_per_second": result.steps_per_second,
        "time/checkpoint_seconds": result.checkpoint_seconds,
    }


def check_loss(config: Config, metrics: IntervalMetrics) -> None:
    """Looks whether training goes on with numbers.

    Raises:
      TrainingDivergedError: The loss is infinite or NaN though there were updates.
    """
    if config.training.gradient_steps_per_iteration == 0 or math.isfinite(metrics.loss):
        return
    huber = "" if config.agent.is_categorical else ", or use agent.loss=huber"
    began = metrics.iteration - config.training.log_interval
    raise TrainingDivergedError(
        f"the loss became {metrics.loss} between iterations {max(0, began):,} and "
        f"{metrics.iteration:,} (environment step {metrics.env_steps:,}); lower "
        f"optimizer.learning_rate or set agent.gradient_clipping{huber}"
    )
