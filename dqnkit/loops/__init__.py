"""Training loops behind one interface, by which a run advances chunk by chunk.

`base` holds the interface. `graph` compiles environment, replay, sampling and update into one XLA
program; `host` steps Gymnasium environments in Python and compiles the updates (`updates`). A
loop takes a resolved configuration, returns the metrics of the log intervals that ended, and
neither evaluates nor logs; `dqnkit.runs` does both.
"""
