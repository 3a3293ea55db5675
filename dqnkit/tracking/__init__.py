"""Records of runs in an MLflow store.

`location` resolves where a store is. A run records itself through a `Tracker`: `mlflow_tracker`
puts what the run logs into an `outbox` on disk, and a thread delivers the outbox to the store. If
the store does not answer, training continues and nothing is lost. `store` finds and reads runs,
`references` resolves the RUN arguments of users, `editor` changes runs by id, and `names` holds
tags, artifacts and metrics that are read again. Modules import MLflow only when a store is really
used.
"""
