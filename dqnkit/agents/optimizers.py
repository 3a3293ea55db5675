"""Keras optimizers and learning-rate schedules, built from a configuration."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.config.fields import required
from dqnkit.config.sections import Config, OptimizerConfig


def make_optimizer(config: Config) -> Any:
    """Return the configured `tf.keras.optimizers.Optimizer`."""
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
    """Return the learning rate: a float, or a `LearningRateSchedule` over `updates` updates."""
    initial = config.learning_rate
    if config.schedule == "constant":
        return initial
    schedules, final = tf.keras.optimizers.schedules, required(config.final_learning_rate)
    if config.schedule == "linear":
        return schedules.PolynomialDecay(initial, updates, final, power=1.0)
    return schedules.CosineDecay(initial, updates, alpha=final / initial)


def named_variables(optimizer: Any) -> dict[str, Tensor]:
    """Return an optimizer's variables under names that are the same in every process.

    A name is Keras's own, such as `iteration` or `m/parameters`, without `:0` and without the
    numbers (`_1`) by which Keras may tell models of one process apart. Variables whose names would
    then be equal are numbered in Keras's order: `m/kernel`, `m/kernel_1`.
    """
    counts: Counter[str] = Counter()
    named = {}
    for variable in optimizer.variables:
        name = re.sub(r"_\d+(?=/|$)", "", variable.name.removesuffix(":0"))
        named[f"{name}_{counts[name]}" if counts[name] else name] = variable
        counts[name] += 1
    return named


def _moments(config: OptimizerConfig) -> dict[str, float]:
    return {
        "beta_1": required(config.beta_1),
        "beta_2": required(config.beta_2),
        "epsilon": config.epsilon,
    }
