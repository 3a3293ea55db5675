"""Environments, as TensorFlow operations and through Gymnasium.

`resolution` completes a configuration with the help of the environment's spec (`specs`), which
`description` reads from Gymnasium's spaces. The graph loop takes the `dynamics` that `registry`
makes from equations (`acrobot`, `cartpole`, `mountain_car`) or from a transition table (`tabular`).
The host loop steps Gymnasium's own environments with `vector`, and videos are made with
`rendering`; `factory` makes the environments of both, with `wrappers`. `checks` stands between an
environment and everything that reads it, and `observations` encodes what it observes. `failures`,
`watchdog` and `closing` turn exceptions and hangs of an environment's code into errors and warnings
of dqnkit, and `packages` knows what installs environments.
"""

from dqnkit.envs._gymnasium import check_version

check_version()
