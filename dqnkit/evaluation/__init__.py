"""Greedy evaluation episodes, their statistics, and plots of them.

`factory` makes an `Evaluator` (`base`), which plays episodes either in the graph (`graph`) or in
Gymnasium environments (`host`). Its returns and lengths become `Episodes` (`episodes`), whose
statistics come from `aggregates`. `document` stores them as `evaluation.json`; `formatting` and
`plots` show them.
"""
