"""Runs RL Baselines3 Zoo's `train -optimize` with the search space of `search-cartpole.yaml`.

Called by `tune.py`, in a separate environment (`requirements-zoo.txt`). The arguments are those of
`rl_zoo3.train`; only the search space differs: learning rate, layer sizes and batch size.
"""

from __future__ import annotations

from typing import Any

from rl_zoo3 import exp_manager, train


def sample_hyperparameters(trial: Any, *_: object) -> dict[str, Any]:
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    layers = trial.suggest_int("layers", 1, 3)
    units = [trial.suggest_int(f"units_{i}", 16, 256, log=True) for i in range(1, layers + 1)]
    batch = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    return {"learning_rate": rate, "batch_size": batch, "policy_kwargs": {"net_arch": units}}


exp_manager.HYPERPARAMS_SAMPLER["dqn"] = sample_hyperparameters

if __name__ == "__main__":
    train.train()
