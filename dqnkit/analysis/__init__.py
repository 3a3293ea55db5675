"""Evaluation, rendering, comparison and listing of trained policies and recorded runs.

`policy_evaluation` plays a saved policy, `video` renders it (`playback`, `panel`, `video_writer`),
`comparison` pools runs (`groups`) and draws their curves, and `listing` lists runs. Each takes
references to runs, reads the store, and adds its results to the runs.
"""
