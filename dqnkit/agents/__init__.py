"""The learning agent: networks, optimizers, the update, exploration and policies.

`learner` builds a Q-network (`networks`) and an optimizer (`optimizers`) from a configuration and
updates the network on batches from a replay. The training loops act with it by the rules in
`exploration`, on the `schedules` of epsilon and temperature. `policies` plays, saves and loads what
was learned.
"""
