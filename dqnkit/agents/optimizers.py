"""Keras's optimizers and learning-rate schedules, from a configuration."""

from __future__ import annotations

from typing import Any

from dqnkit._system.tensorflow import tf
from dqnkit.config.fields import required
from dqnkit.config.sections import Config, OptimizerConfig


def make_optimizer(config: Config) -> Any:
    """The `tf.keras.optimizers.Optimizer` that a configuration asks for."""
    optimizer = config.optimizer
    rate = learning_rate(optimizer, optimizer.decay_updates or max(1, config.num_updates))
    match optimizer.kind:
        case "adam":
            return tf.keras.optimizers.Adam(rate, **_moments(optimizer))
        case "adamw":
            decay = required(optimizer.weight_decay)
            return tf.keras.optimizers.AdamW(rate, weight_decay=decay, **_moments(optimizer))
        case "rmsprop":
            return tf.keras.optimizers.RMSprop(
                rate,
                rho=required(optimizer.rho),
                momentum=required(optimizer.momentum),
                centered=required(optimizer.centered),
                epsilon=optimizer.epsilon,
            )


def learning_rate(config: OptimizerConfig, updates: int) -> Any:
    """The learning rate: a number, or a `LearningRateSchedule` over so many updates."""
    initial = config.learning_rate
    if config.schedule == "constant":
        return initial
    schedules, final = tf.keras.optimizers.schedules, required(config.final_learning_rate)
    if config.schedule == "linear":
        return schedules.PolynomialDecay(initial, updates, final, power=1.0)
    return schedules.CosineDecay(initial, updates, alpha=final / initial)


def _moments(config: OptimizerConfig) -> dict[str, float]:
    return {
        "beta_1": required(config.beta_1),
        "beta_2": required(config.beta_2),
        "epsilon": config.epsilon,
    }
