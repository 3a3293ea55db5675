"""dqnkit: train, track, tune and render Deep Q-Networks.

    import dqnkit

    config = dqnkit.load("cartpole", ["training.seed=1"])
    result = dqnkit.train(config)
    print(result.final.summary)

Importing it is quick; TensorFlow and MLflow are loaded by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dqnkit.analysis.comparing import compare
    from dqnkit.analysis.evaluating import evaluate
    from dqnkit.analysis.listing import list_runs
    from dqnkit.analysis.rendering import VideoOptions, render
    from dqnkit.config import Config
    from dqnkit.errors import DqnkitError
    from dqnkit.experiments import dump, load
    from dqnkit.tracking.reader import Filter
    from dqnkit.training.result import TrainResult
    from dqnkit.training.run import train
    from dqnkit.tuning.options import TuneOptions
    from dqnkit.tuning.results import TuneResult
    from dqnkit.tuning.tune import tune
    from dqnkit.workers.training import SeedsOptions, SeedsResult, train_seeds

_HOMES = {
    "Config": "dqnkit.config",
    "Filter": "dqnkit.tracking.reader",
    "VideoOptions": "dqnkit.analysis.rendering",
    "compare": "dqnkit.analysis.comparing",
    "evaluate": "dqnkit.analysis.evaluating",
    "list_runs": "dqnkit.analysis.listing",
    "render": "dqnkit.analysis.rendering",
    "DqnkitError": "dqnkit.errors",
    "dump": "dqnkit.experiments",
    "load": "dqnkit.experiments",
    "train": "dqnkit.training.run",
    "TrainResult": "dqnkit.training.run",
    "SeedsOptions": "dqnkit.workers.training",
    "SeedsResult": "dqnkit.workers.training",
    "TuneOptions": "dqnkit.tuning.options",
    "TuneResult": "dqnkit.tuning.results",
    "train_seeds": "dqnkit.workers.training",
    "tune": "dqnkit.tuning.tune",
}

__all__ = [
    "Config",
    "DqnkitError",
    "Filter",
    "SeedsOptions",
    "SeedsResult",
    "TrainResult",
    "TuneOptions",
    "TuneResult",
    "VideoOptions",
    "__version__",
    "compare",
    "dump",
    "evaluate",
    "list_runs",
    "load",
    "render",
    "train",
    "train_seeds",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dqnkit' has no attribute {name!r}")
