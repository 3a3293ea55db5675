"""Optuna's samplers and pruners by name, and the points of a grid."""

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

from dqnkit.config.distributions import Choices, Distribution, FloatRange, IntRange, LayerSizes
from dqnkit.config.random_streams import Stream, stream_key
from dqnkit.errors import ArgumentError
from dqnkit.tuning.space import Params, Space, to_param

SamplerName = Literal["tpe", "random", "gp", "cmaes", "grid"]
PrunerName = Literal["hyperband", "median", "wilcoxon", "none"]

_STARTUP_TRIALS = 10
"""Number of trials before a sampler fits its model, and before the median pruner prunes."""
_WILCOXON_SEEDS = 5
"""Minimum number of seeds for the Wilcoxon pruner: with fewer than 4 pairs, the test cannot reach
its threshold of 0.1, and at least one seed must be left to skip."""
_MAX_GRID_POINTS = 10_000


def make_sampler(name: SamplerName, seed: int, salt: int) -> BaseSampler:
    """Make a sampler.

    Args:
      name: Name of the sampler.
      seed: Seed of the search.
      salt: Number that distinguishes samplers with the same seed, so that their draws differ.

    Raises:
      ArgumentError: If the name is unknown, or a package is not installed.
    """
    words = np.random.SeedSequence([stream_key(seed, Stream.SEARCH), salt]).generate_state(1)
    number = int(words[0])
    samplers = optuna.samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "tpe":
                # In groups, because the number of layers decides which units are suggested.
                return samplers.TPESampler(
                    n_startup_trials=_STARTUP_TRIALS, multivariate=True, group=True, seed=number
                )
            case "random":
                return samplers.RandomSampler(seed=number)
            case "gp":
                _check_torch()
                return samplers.GPSampler(
                    n_startup_trials=_STARTUP_TRIALS, seed=number, warn_independent_sampling=False
                )
            case "cmaes":
                return samplers.CmaEsSampler(
                    n_startup_trials=_STARTUP_TRIALS, seed=number, warn_independent_sampling=False
                )
            case "grid":  # all parameters are fixed (`grid_points`), so nothing is drawn
                return samplers.RandomSampler(seed=number)
    raise ArgumentError("sampler", name, f"expected {', '.join(get_args(SamplerName))}")


def make_pruner(name: PrunerName, reports: int, seeds_per_trial: int) -> BasePruner:
    """Make a pruner.

    Args:
      name: Name of the pruner.
      reports: Number of values that a trial reports if it is not pruned.
      seeds_per_trial: Number of seeds per trial.

    Raises:
      ArgumentError: If the name is unknown, or there are too few seeds to compare.
    """
    pruners = optuna.pruners
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "hyperband":
                return pruners.HyperbandPruner(
                    min_resource=max(1, reports // 20), max_resource=reports
                )
            case "median":
                return pruners.MedianPruner(
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
                return pruners.WilcoxonPruner()
            case "none":
                return pruners.NopPruner()
    raise ArgumentError("pruner", name, f"expected {', '.join(get_args(PrunerName))}")


def grid_points(space: Space) -> list[Params]:
    """Return all combinations of the values of all keys.

    Raises:
      ArgumentError: If a key has infinitely many values, or there are too many combinations.
    """
    values = {key: _all_values(key, each) for key, each in space.distributions.items()}
    count = math.prod(len(each) for each in values.values())
    if count > _MAX_GRID_POINTS:
        raise _grid_error(
            f"the space has {count:,} points; give larger steps or fewer choices, for at most "
            f"{_MAX_GRID_POINTS:,}, or choose another sampler"
        )
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def _all_values(key: str, distribution: Distribution) -> list[Any]:
    match distribution:
        case Choices():
            return [to_param(each) for each in distribution.choices]
        case LayerSizes():
            raise _grid_error(
                f"search.{key}: list the layer sizes to try, as "
                "{type: categorical, choices: [[64], [64, 64]]}"
            )
        case FloatRange() | IntRange():
            return _stepped_values(key, distribution)


def _stepped_values(key: str, distribution: FloatRange | IntRange) -> list[Any]:
    step = distribution.step or (1 if isinstance(distribution, IntRange) else None)
    if step is None or distribution.log:
        raise _grid_error(
            f"search.{key}: a grid needs a step, or choices: {distribution.low:g} to "
            f"{distribution.high:g} was given"
        )
    count = math.floor((distribution.high - distribution.low) / step + 1e-9) + 1
    count = min(count, _MAX_GRID_POINTS + 1)  # enough to know that there are too many
    values = [distribution.low + step * number for number in range(count)]
    if isinstance(distribution, IntRange):
        return values
    return [float(f"{value:.12g}") for value in values]  # 0.95, not 0.9500000000000001


def _check_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise ArgumentError(
            "sampler",
            "gp",
            "Optuna's Gaussian process needs PyTorch: install dqnkit[gp], or choose tpe",
        )


def _grid_error(problem: str) -> ArgumentError:
    return ArgumentError("sampler", "grid", problem)
