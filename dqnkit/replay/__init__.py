"""Experience replay: uniform and prioritized, in the graph and on the host.

The graph loop writes transitions into a `GraphUniformReplay` or `GraphPrioritizedReplay`, pure
functions of a state that XLA compiles with the loop. The host loop writes frames into a
`HostReplay` (`base`), which assembles transitions when they are sampled. `factory` makes both from
a configuration. Every replay sums n-step returns.
"""
