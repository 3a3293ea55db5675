"""Records of runs in an MLflow store.

`location` resolves where a store is. A run talks to a `Tracker`: `mlflow_tracker` puts what it
logs into an `outbox` on disk, and a thread delivers the outbox to the store, so that a store that
does not answer neither ends the run nor leaves gaps in its record. `store` finds and reads runs, `references` resolves
what users call them, `editor` changes runs by id, and `names` holds every metric, tag and
artifact. Modules import MLflow only when a store is really used.
"""
