"""One run from start to end.

`trainer` builds a loop, a policy and an evaluator (`components`), trains chunk by chunk, evaluates
at intervals (`history`), writes `checkpoints` and `artifacts`, and logs `metrics` to the run's
record. `resumption` finds what an interrupted run continues from, and `sync` delivers what a store
did not receive.
"""
