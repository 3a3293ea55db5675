"""Optuna's samplers and pruners by name."""

from __future__ import annotations

import importlib.util
import itertools
import math
import warnings
from typing import Any, Literal, get_args

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from dqnkit.config.distributions import Choices, Distribution, IntRange, LayerSizes
from dqnkit.config.seeds import Stream, stream_key
from dqnkit.errors import ArgumentError
from dqnkit.tuning.space import Params, Space, plain

SamplerName = Literal["tpe", "random", "gp", "cmaes", "grid"]
PrunerName = Literal["hyperband", "median", "wilcoxon", "none"]

_STARTUP_TRIALS = 10
"""Trials that a model waits for; before it, and for a pruner to have something to compare with."""
_WILCOXON_SEEDS = 5
"""Four pairs are the fewest that can differ at its level of 0.1, and a fifth is left to save."""
_GRID_POINTS = 10_000
"""At most."""


def make_sampler(name: SamplerName, seed: int, salt: int) -> BaseSampler:
    """A sampler.

    Args:
      name: Which.
      seed: Of the search.
      salt: Makes its draws differ from those of the same seed with another salt.

    Raises:
      ConfigError: It needs a package that is not installed.
    """
    words = np.random.SeedSequence([stream_key(seed, Stream.SEARCH), salt]).generate_state(1)
    number = int(words[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                # By groups, since how many layers there are decides which units are asked for.
                return optuna.samplers.TPESampler(
                    n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True, seed=number
                )
            case "random":
                return optuna.samplers.RandomSampler(seed=number)
            case "gp":
                if importlib.util.find_spec("torch") is None:
                    raise ArgumentError(
                        "sampler",
                        "gp",
                        "Optuna's Gaussian process needs PyTorch: install dqnkit[gp], or take tpe",
                    )
                return optuna.samplers.GPSampler(
                    n_startup_trials=_STARTUP_TRIALS, seed=number, warn_independent_sampling=False
                )
            case "cmaes":
                return optuna.samplers.CmaEsSampler(
                    n_startup_trials=_STARTUP_TRIALS, seed=number, warn_independent_sampling=False
                )
            case "grid":  # its points are given (`grid_points`), and it draws nothing
                return optuna.samplers.RandomSampler(seed=number)
    raise ArgumentError("sampler", name, f"expected {', '.join(get_args(SamplerName))}")


def make_pruner(name: PrunerName, reports: int, seeds_per_trial: int) -> BasePruner:
    """A pruner.

    Args:
      name: Which.
      reports: How often a trial that is not pruned reports.
      seeds_per_trial: How many trainings a trial has.

    Raises:
      ConfigError: It has nothing to compare.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "hyperband":
                return optuna.pruners.HyperbandPruner(
                    min_resource=max(1, reports // 20), max_resource=reports
                )
            case "median":
                return optuna.pruners.MedianPruner(
                    n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=reports // 5
                )
            case "wilcoxon":
                if seeds_per_trial < _WILCOXON_SEEDS:
                    raise ArgumentError(
                        "pruner",
                        "wilcoxon",
                        f"it compares trials seed by seed, and `seeds_per_trial` {seeds_per_trial} "
                        f"is too few to prune any: give {_WILCOXON_SEEDS} or more",
                    )
                return optuna.pruners.WilcoxonPruner()
            case "none":
                return optuna.pruners.NopPruner()
    raise ArgumentError("pruner", name, f"expected {', '.join(get_args(PrunerName))}")


def grid_points(space: Space) -> list[Params]:
    """Every combination of the values of all keys.

    Raises:
      ConfigError: A key has infinitely many values, or there are too many combinations to try.
    """
    values = {key: _all_values(key, each) for key, each in space.distributions.items()}
    count = math.prod(len(each) for each in values.values())
    if count > _GRID_POINTS:
        raise ArgumentError(
            "sampler",
            "grid",
            f"the space has {count:,} points; give larger steps or fewer choices, for at most "
            f"{_GRID_POINTS:,}, or take another sampler",
        )
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def _all_values(key: str, distribution: Distribution) -> list[Any]:
    if isinstance(distribution, Choices):
        return [plain(each) for each in distribution.choices]
    if isinstance(distribution, LayerSizes):
        raise ArgumentError(
            "sampler",
            "grid",
            f"search.{key}: list the layer sizes to try, as "
            "{type: categorical, choices: [[64], [64, 64]]}",
        )
    step = distribution.step or (1 if isinstance(distribution, IntRange) else None)
    if step is None or distribution.log:
        raise ArgumentError(
            "sampler",
            "grid",
            f"search.{key}: a grid needs a step, or choices: {distribution.low:g} to "
            f"{distribution.high:g} was given",
        )
    count = math.floor((distribution.high - distribution.low) / step + 1e-9) + 1
    values = (distribution.low + step * number for number in range(min(count, _GRID_POINTS + 1)))
    if isinstance(distribution, IntRange):
        return list(values)
    return [float(f"{value:.12g}") for value in values]  # 0.95, not 0.9500000000000001
