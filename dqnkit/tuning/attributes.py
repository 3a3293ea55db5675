"""Keys of the user attributes that dqnkit sets on the studies and trials of Optuna."""

from __future__ import annotations

from typing import Final


class StudyAttr:
    """Keys of a study's attributes."""

    EXPERIMENT: Final = "dqnkit.experiment"
    """The resolved configuration, as JSON."""
    SPACE: Final = "dqnkit.space"
    """The search space. Set last, so that a study that has it has all parts of its definition."""
    SEEDS_PER_TRIAL: Final = "dqnkit.seeds_per_trial"
    REPORTS_SEEDS: Final = "dqnkit.reports_seeds"
    """True if trials report a value after each seed."""
    VERSION: Final = "dqnkit.version"
    """Version of dqnkit that made the study."""
    CREATED: Final = "dqnkit.began"
    """Time of creation, in ISO 8601."""
    OWNER: Final = "dqnkit.process"
    """Process that opened the study last (`dqnkit.processes.identity`)."""
    RUN_ID: Final = "dqnkit.run_id"
    """MLflow's id of the study's run."""
    CONFIRMATION: Final = "dqnkit.confirmation"
    """Results of the confirmation by trial and seed."""
    WINNER: Final = "dqnkit.best"
    """The winner, as YAML."""
    CONCLUSION: Final = "dqnkit.concluded"
    """The winner with the run and the registered model that keep it."""


class TrialAttr:
    """Keys of a trial's attributes."""

    PROCESS: Final = "process"
    """Process that runs the trial (`dqnkit.processes.identity`)."""
    ATTEMPT: Final = "attempt"
    """Number of the attempt at the same parameters, from 1."""
    CAUSE: Final = "cause"
    """Cause of a failure, or `INTERRUPTED`."""
    RUN_ID: Final = "run_id"
    """MLflow's id of the trial's run."""
    REPEATS: Final = "repeats"
    """Number of the trial whose result the trial takes, because it has the same values."""
    MEAN: Final = "mean"
    """Mean return of the episodes whose interquartile mean is the trial's value."""


INTERRUPTED: Final = "interrupted"
"""Cause of a trial that its process could not end. It is no failure of the trial's own."""
