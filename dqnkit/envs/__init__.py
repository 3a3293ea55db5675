"""Environments, as TensorFlow operations and through Gymnasium.

`resolution` completes a configuration with the help of the environment's spec (`specs`), which
`factory` reads from Gymnasium. The graph loop takes the `dynamics` that `registry` makes from
equations (`acrobot`, `cartpole`, `mountain_car`) or from a transition table (`tabular`); the host
loop steps Gymnasium's own environments with `vector`, and videos are made with `rendering`.
`failures` and `watchdog` turn exceptions and hangs of an environment's code into errors of dqnkit.
"""
