"""Worker processes that train one run after another.

A `pool` starts workers through a launcher: processes of this machine, or tasks of a Ray cluster
(`placement`, `ray_cluster`). `dispatcher` hands out the tasks of jobs, and each `worker` sends the
events of its run back. `seeds` trains several seeds of one configuration this way, with their
parent run in `seed_group`; `dqnkit.tuning` trains trials.
"""
