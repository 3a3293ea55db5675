"""Names of tags, kinds of runs, artifacts and metrics in an MLflow store.

Metrics that are only logged are named in `dqnkit.runs.metrics`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

# -- Metrics. The part before the slash is the section of MLflow's charts.

TRAIN: Final = "train"
EVAL: Final = "eval"
BEST: Final = "best"
LATE: Final = "late"
FINAL: Final = "final"
FINAL_RANDOM: Final = "final/random"
TIME: Final = "time"
STUDY: Final = "study"
SEARCH: Final = "search"
POOLED: Final = "pooled"


class Metric:
    """Names of metrics that are read as well as logged; MLflow's step is the environment step."""

    EVAL_MEAN: Final = f"{EVAL}/return_mean"
    """Mean return of one evaluation."""
    POOLED_IQM: Final = f"{POOLED}/return_iqm"
    """Interquartile mean over seeds of the mean returns of one evaluation."""
    POOLED_LOW: Final = f"{POOLED}/return_ci_low"
    POOLED_HIGH: Final = f"{POOLED}/return_ci_high"
    BEST_MEAN: Final = f"{BEST}/return_mean"
    """Mean return of the best evaluation so far."""
    FINAL_MEAN: Final = f"{FINAL}/return_mean"
    """Mean return of the best policy on fresh episodes."""
    FINAL_IQM: Final = f"{FINAL}/return_iqm"
    """Interquartile mean of these returns: the score of a run."""
    FINAL_LOW: Final = f"{FINAL}/return_ci_low"
    FINAL_HIGH: Final = f"{FINAL}/return_ci_high"
    FINAL_EPISODES: Final = f"{FINAL}/episodes"
    FINAL_SECONDS: Final = f"{FINAL}/seconds"
    FINAL_DIFFERENCE: Final = f"{FINAL}/difference"
    """Score of the trained policy minus that of the random one."""
    LATE_IQM: Final = f"{LATE}/return_iqm"
    """Interquartile mean of the episodes of the last evaluations: the value of a trial."""
    LATE_LOW: Final = f"{LATE}/return_ci_low"
    LATE_HIGH: Final = f"{LATE}/return_ci_high"
    LATE_EPISODES: Final = f"{LATE}/episodes"
    STEPS_PER_SECOND: Final = f"{TIME}/steps_per_second"
    TRAINING_SECONDS: Final = f"{TIME}/training_seconds"
    TOTAL_SECONDS: Final = f"{TIME}/total_seconds"
    SEEDS: Final = "seeds"
    """Number of seeds that a parent run aggregates."""


POOLED_BAND: Final = (Metric.POOLED_IQM, Metric.POOLED_LOW, Metric.POOLED_HIGH)
"""Aggregate learning curve of several seeds, with its interval."""

# -- Tags


class Tag:
    """Keys of tags."""

    KIND: Final = "dqnkit.kind"
    """Kind of a run (`RunKind`). Runs without this tag were not made by dqnkit."""
    VERSION: Final = "dqnkit.version"
    ENV: Final = "dqnkit.env"
    SEED: Final = "dqnkit.seed"
    LOOP: Final = "dqnkit.loop"
    COMMAND: Final = "dqnkit.command"
    DEVICE: Final = "dqnkit.device"
    PYTHON: Final = "dqnkit.python"
    CONFIG: Final = "dqnkit.config"
    """Fingerprint of the configuration (`dqnkit.config.fingerprint`)."""
    GIT_DIRTY: Final = "dqnkit.git_dirty"
    RESUMED_AT: Final = "dqnkit.resumed_at"
    """Iteration at which the run was resumed last."""
    STUDY: Final = "dqnkit.study"
    """Name of the study that the run is a trial of."""
    TRIAL: Final = "dqnkit.trial"
    """Number of the trial."""
    TRIAL_STATE: Final = "trial.state"
    """`complete`, `pruned`, `failed` or `interrupted`."""
    TRIAL_CAUSE: Final = "trial.cause"
    CONFIRMS: Final = "dqnkit.confirms"
    """Name of the study whose trial the run confirms; such a run is not a trial."""
    COMPARED_RUNS: Final = "dqnkit.runs"
    PROCESS: Final = "dqnkit.process"
    """Process that writes the run (`dqnkit.processes.identity`)."""
    OUTBOX: Final = "dqnkit.journal"
    """Token of the run's outbox, by which a run is found whose creation was not acknowledged."""
    NOTE: Final = "mlflow.note.content"
    """Description of a run, in Markdown."""
    COLOR: Final = "mlflow.runColor"
    """Colour of a run in the UI's charts."""
    PARENT: Final = "mlflow.parentRunId"
    GIT_COMMIT: Final = "mlflow.source.git.commit"
    SOURCE: Final = "mlflow.source.name"
    USER: Final = "mlflow.user"


class RunKind(StrEnum):
    """Values of `Tag.KIND`."""

    TRAINING = "training"
    SEEDS = "seeds"
    """Parent of one configuration with several seeds."""
    STUDY = "study"
    """Parent of the trials of a search."""
    TRIAL = "trial"
    """Parent of a trial with several seeds."""
    CONFIRMATION = "confirmation"
    """Parent of a candidate's fresh seeds."""
    COMPARISON = "comparison"


COMPARISONS: Final = "comparisons"
"""Name of the experiment that keeps comparisons."""
CHAMPION: Final = "champion"
"""Alias of the registered model that a search's winner gets."""

# -- Artifacts


class Artifact:
    """Paths among the artifacts of a run."""

    CONFIG: Final = "config.yaml"
    EVALUATION: Final = "evaluation.json"
    LEARNING_CURVE: Final = "learning_curve.png"
    RETURNS: Final = "final/returns.png"
    CHECKPOINTS: Final = "checkpoints"
    """Folder of checkpoints, in a run's outbox too."""
    LAST_CHECKPOINT: Final = "last.npz"
    """Checkpoint that the run is resumed from."""
    BEST_WEIGHTS: Final = "best.npz"
    POLICY: Final = "policy"
    VIDEOS: Final = "videos"
    SEEDS: Final = "seeds.json"
    BEST_CONFIG: Final = "best.yaml"
    TRIALS: Final = "trials.csv"
    CONFIRMATION: Final = "confirmation.csv"
    SEARCH_PAGE: Final = "search.html"
    SEARCH_FIGURES: Final = "search"
    COMPARISON: Final = "comparison.json"
    CURVES_PICTURE: Final = "learning_curves.png"
    PARAMETERS_PICTURE: Final = "parameters.png"
    CURVES_PAGE: Final = "learning_curves.html"
