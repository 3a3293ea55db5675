"""Distributed collection through DeepMind's Reverb (Cassirer et al., 2021, arXiv:2102.04736).

`actor` plays in its environments, and `writer` sends their transitions to the tables (`tables`) of
a `server`, from which `replay` samples for the training loop in `learner_loop`. The learner
publishes its weights to a table beside the replay (`broadcast`), where the actors read them.
`actor_pool` starts the actors of a learner on its own machine. `connection` and `library` are the
only modules that handle Reverb's errors and import. The package needs the extra `reverb`
(`dqnkit._system.extras`).
"""
