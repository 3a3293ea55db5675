"""Evaluation, rendering, comparison and listing of trained policies and recorded runs.

`policy_evaluation` plays a saved policy, `video` renders it (`playback`, `panel`, `recording`,
`video_writer`), and `policy_loading` loads it. `comparison` pools runs (`groups`) and draws their
curves, and `listing` lists runs. Each takes references to runs and reads the store; evaluations,
videos and comparisons are added to it.
"""
