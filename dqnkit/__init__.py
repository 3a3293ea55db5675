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
    from dqnkit.analysis.listing import list_runs
    from dqnkit.analysis.policy_evaluation import evaluate
    from dqnkit.analysis.video import VideoOptions, render
    from dqnkit.config.loading import dump, load
    from dqnkit.config.sections import Config
    from dqnkit.errors import DqnkitError
    from dqnkit.runs.result import TrainResult
    from dqnkit.runs.trainer import train
    from dqnkit.tracking.store import RunFilter
    from dqnkit.tuning.options import TuneOptions
    from dqnkit.tuning.results import TuneResult
    from dqnkit.tuning.search import tune
    from dqnkit.workers.seeds import SeedsOptions, SeedsResult, train_seeds

_HOMES = {
    "Config": "dqnkit.config.sections",
    "RunFilter": "dqnkit.tracking.store",
    "VideoOptions": "dqnkit.analysis.video",
    "compare": "dqnkit.analysis.comparing",
    "evaluate": "dqnkit.analysis.policy_evaluation",
    "list_runs": "dqnkit.analysis.listing",
    "render": "dqnkit.analysis.video",
    "DqnkitError": "dqnkit.errors",
    "dump": "dqnkit.config.loading",
    "load": "dqnkit.config.loading",
    "train": "dqnkit.runs.trainer",
    "TrainResult": "dqnkit.runs.trainer",
    "SeedsOptions": "dqnkit.workers.seeds",
    "SeedsResult": "dqnkit.workers.seeds",
    "TuneOptions": "dqnkit.tuning.options",
    "TuneResult": "dqnkit.tuning.results",
    "train_seeds": "dqnkit.workers.seeds",
    "tune": "dqnkit.tuning.search",
}

__all__ = [
    "Config",
    "DqnkitError",
    "RunFilter",
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
