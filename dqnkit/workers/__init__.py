"""Worker processes that train one run after another.

A `pool` starts workers through a launcher: processes of this machine, or tasks of a Ray cluster
(`placement`, `launch_plan`, `ray_cluster`). `dispatcher` assigns the runs of jobs to idle workers
(`orders`), and each `worker` sends back the events of its run. `seeds` trains several seeds of one
configuration this way (`seed_jobs`) and records them below one parent run (`seed_group`);
`dqnkit.tuning` trains trials.
"""
