"""Searches for a better configuration with Optuna. No other package imports Optuna.

`search` opens a study in a `storage` through `catalog`, and trains its trials in the workers of
`dqnkit.workers`: `space` samples their values, `study` makes sure that exactly N of them end,
whichever of its processes die (`heartbeats`), and `trial_jobs` hands them out. `conclusion` then
trains the best of them again with fresh seeds (`confirmation`) and registers the winner.
`study_run` and `running_trial` keep the record in MLflow.
"""
