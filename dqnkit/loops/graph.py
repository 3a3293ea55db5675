"""The graph loop: environment, replay, sampling and update in one XLA program.

One call of `_chunk` runs any number of iterations of
  collect_steps_per_iteration steps of the behaviour policy in every environment, then
  gradient_steps_per_iteration updates of sampled batches.
Its state goes in and comes out; the agent's variables are the only other thing it touches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dqnkit._system.random_bits import below, draw, uniform
from dqnkit._system.tensorflow import Tensor, tf, xla
from dqnkit.agents.exploration import GRAPH_POLICIES
from dqnkit.agents.learner import DqnLearner
from dqnkit.agents.policies import Weights
from dqnkit.agents.schedules import Schedule, beta_schedule, exploration_schedule
from dqnkit.config.sections import Config, ReplayConfig
from dqnkit.config.seeds import Stream, stream_key
from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics, EpisodeState
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.transitions import Transitions
from dqnkit.errors import ConfigError
from dqnkit.loops.base import Arrays, IntervalMetrics, IntervalSums
from dqnkit.replay.factory import make_graph_replay
from dqnkit.replay.graph_uniform import GraphUniformReplay, ReplayState

MAX_CHUNK = 20_000
"""Iterations of one call at most; bounds the table of metrics that it returns."""


class GraphInterval(NamedTuple):
    """IntervalSums over the log interval that is under way; float64 scalars."""

    updates: Tensor
    loss: Tensor
    steps: Tensor
    exploration: Tensor
    episodes: Tensor
    returns: Tensor
    lengths: Tensor

    @classmethod
    def empty(cls) -> GraphInterval:
        """Nothing summed yet."""
        return cls(*[tf.constant(0.0, tf.float64)] * len(cls._fields))

    def plus(self, **amounts: Tensor) -> GraphInterval:
        """With amounts added."""
        sums = {name: getattr(self, name) + tf.cast(v, tf.float64) for name, v in amounts.items()}
        return self._replace(**sums)


class LoopState(NamedTuple):
    """The explicit state: with the learner's variables, all that decides what comes next.

    Random numbers are functions of (stream key, iteration), so there is no generator to save.
    """

    iteration: Tensor
    """int64 scalar."""
    env_steps: Tensor
    """int64 scalar."""
    episodes: EpisodeState
    returns: Tensor
    """Undiscounted return so far of each environment's episode, float32 [num_envs]."""
    replay: ReplayState
    window: GraphInterval


class Collector:
    """Steps of the environments into the replay, whoever chooses the actions."""

    def __init__(self, dynamics: Dynamics, num_envs: int, replay: GraphUniformReplay) -> None:
        self._num_envs = num_envs
        self.dynamics = dynamics
        self.environment = BatchedEnvironment(dynamics)
        self.replay = replay
        self.bits_a_step = num_envs * (2 + self.environment.num_uniforms)

    def split(self, bits: Tensor) -> list[Tensor]:
        """The random bits of a step: two for the action, and how the environment goes."""
        num_envs = self._num_envs
        sizes = [num_envs, num_envs, num_envs * self.environment.num_uniforms]
        parts: list[Tensor] = tf.split(bits, sizes)
        return parts

    def step(
        self, state: LoopState, action: Tensor, moves: Tensor, exploration: Tensor
    ) -> LoopState:
        """One step of every environment with actions int32 [num_envs]."""
        num_envs = self._num_envs
        observation = self.environment.observe(state.episodes)
        episodes, timestep = self.environment.step(
            state.episodes,
            action,
            tf.reshape(uniform(moves), [num_envs, self.environment.num_uniforms]),
        )
        done = timestep.done
        replay = self.replay.add(
            state.replay,
            Transitions(
                observation, action, timestep.reward, timestep.discount, timestep.observation
            ),
            done,
        )
        returns = state.returns + timestep.reward
        zeros = tf.zeros_like(returns)
        window = state.window.plus(
            steps=num_envs,
            exploration=exploration * num_envs,
            episodes=tf.math.count_nonzero(done),
            returns=tf.reduce_sum(tf.where(done, returns, zeros)),
            lengths=tf.reduce_sum(tf.where(done, state.episodes.elapsed + 1, 0)),
        )
        return state._replace(
            env_steps=state.env_steps + num_envs,
            episodes=episodes,
            returns=tf.where(done, zeros, returns),
            replay=replay,
            window=window,
        )

    def fill(self, state: LoopState, key: Tensor, steps: Tensor) -> LoopState:
        """Resets the environments and takes the initial steps with random actions."""
        shape = [self._num_envs, self.dynamics.num_reset_uniforms]
        first = uniform(draw(key, tf.constant(-1, tf.int64), shape[0] * shape[1]))
        state = state._replace(episodes=self.environment.reset(tf.reshape(first, shape)))

        def body(i: Tensor, state: LoopState) -> tuple[Tensor, LoopState]:
            _, choices, moves = self.split(draw(key, i, self.bits_a_step))
            action = below(choices, self.dynamics.num_actions)
            return i + 1, self.step(state, action, moves, tf.constant(1.0, tf.float64))

        _, state = tf.while_loop(lambda i, _: i < steps, body, (tf.constant(0, tf.int64), state))
        return state._replace(window=GraphInterval.empty())


@lru_cache(maxsize=4)
def _compiled_fill(
    dynamics: Dynamics, num_envs: int, replay: ReplayConfig
) -> Callable[..., LoopState]:
    """`Collector.fill`, which is the same for all seeds, and most trials of a search."""
    kept = make_graph_replay(replay, num_envs, dynamics.observation_size)
    collector = Collector(dynamics, num_envs, kept)
    compiled: Callable[..., LoopState] = tf.function(
        collector.fill, jit_compile=True, autograph=False
    )
    return compiled


class GraphLoop:
    """Training in an environment whose dynamics are TensorFlow operations (`Loop`)."""

    def __init__(self, config: Config, spec: EnvSpec, dynamics: Dynamics) -> None:
        """Makes agent, replay and initial state.

        Args:
          config: Resolved.
          spec: Of its environment.
          dynamics: Of its environment, in the graph.

        Raises:
          ConfigError: The replay does not fit into this machine.
        """
        training, seed = config.training, config.training.seed
        self._config = config
        num_envs, agent = config.env.num_envs, config.agent
        replay = make_graph_replay(
            config.replay, num_envs, dynamics.observation_size, agent.n_step, agent.gamma
        )
        self._collector = Collector(dynamics, num_envs, replay)
        self.learner = DqnLearner(config, spec, stream_key(seed, Stream.WEIGHTS))
        self._policy = GRAPH_POLICIES[config.exploration.policy]
        self._exploration = exploration_schedule(config.exploration, tf.minimum)
        self._beta = beta_schedule(config, tf.minimum)
        self._rows = MAX_CHUNK // training.log_interval + 2
        self._state = self._initial_state()
        tensors = tf.nest.flatten(self._state)
        self._table_key = next(
            f"loop/{i}" for i, x in enumerate(tensors) if x is self._state.replay.table
        )

        # tf.function stands here, at the outermost edge; everything below is plain functions.
        self._fill = _compiled_fill(dynamics, num_envs, config.replay)
        self._chunk = tf.function(self._run_chunk, jit_compile=True, autograph=False)

    # -- Loop

    @property
    def iteration(self) -> int:
        """See `Loop`."""
        return int(self._state.iteration)

    @property
    def env_steps(self) -> int:
        """See `Loop`."""
        return int(self._state.env_steps)

    def check(self) -> None:
        """See `Loop`: all that it needs is its own."""

    def start(self) -> None:
        """See `Loop`."""
        nothing = tf.constant(0, tf.int64)
        self._chunk(self._state, nothing)
        if self.env_steps == 0:
            steps = -(-self._config.training.initial_collect_steps // self._config.env.num_envs)
            key = stream_key(self._config.training.seed, Stream.INITIAL_COLLECT)
            self._state = self._fill(
                self._state, tf.constant(key, tf.int64), tf.constant(steps, tf.int64)
            )

    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        """See `Loop`."""
        metrics: list[IntervalMetrics] = []
        end = self.iteration + num_iterations
        while self.iteration < end:
            stop = tf.constant(min(end, self.iteration + MAX_CHUNK), tf.int64)
            self._state, table, rows = self._chunk(self._state, stop)
            metrics += [IntervalSums(*row).metrics() for row in table.numpy()[: int(rows)]]
        return metrics

    def flush(self) -> list[IntervalMetrics]:
        """See `Loop`."""
        if float(self._state.window.steps) == 0:
            return []
        row = [self.iteration, self.env_steps, *(float(x) for x in self._state.window)]
        self._state = self._state._replace(window=GraphInterval.empty())
        return [IntervalSums(*row).metrics()]

    def notes(self) -> list[str]:
        """See `Loop`."""
        return []

    def policy_weights(self) -> Weights:
        """See `Loop`."""
        return self.learner.policy_weights()

    def state(self) -> Arrays:
        """See `Loop`. Of the replay only what is filled."""
        arrays = {f"loop/{i}": x.numpy() for i, x in enumerate(tf.nest.flatten(self._state))}
        arrays[self._table_key] = arrays[self._table_key][: int(self._state.replay.added)]
        return arrays | {f"agent/{k}": v.numpy() for k, v in self.learner.variables().items()}

    def restore(self, state: Arrays) -> None:
        """See `Loop`."""
        own = {f"loop/{i}": x for i, x in enumerate(tf.nest.flatten(self._state))}
        for name, tensor in own.items():
            if name not in state:
                raise ConfigError(f"the saved state has no {name!r}: it is not one of this loop")
            given, wanted = state[name].shape, tuple(tensor.shape)
            if name == self._table_key and given[:1] <= wanted[:1]:  # what is filled
                given = (*wanted[:1], *given[1:])
            if given != wanted:
                raise ConfigError(
                    f"the saved state has {given} for {name!r}, and this loop needs {wanted}: "
                    "restore it with the configuration it was saved by"
                )
        agent = {k.removeprefix("agent/"): v for k, v in state.items() if k.startswith("agent/")}
        self.learner.restore(agent)
        filled = state[self._table_key]
        table = np.zeros(self._state.replay.table.shape, np.float32)
        table[: len(filled)] = filled
        flat = [tf.constant(state[name]) for name in own]
        restored = tf.nest.pack_sequence_as(self._state, flat)
        self._state = restored._replace(replay=restored.replay._replace(table=tf.constant(table)))

    def close(self) -> None:
        """See `Loop`: there is nothing to end."""

    # -- What is compiled

    def _initial_state(self) -> LoopState:
        num_envs = self._config.env.num_envs
        return LoopState(
            iteration=tf.constant(0, tf.int64),
            env_steps=tf.constant(0, tf.int64),
            episodes=EpisodeState(
                tf.zeros([num_envs, self._collector.dynamics.state_size], tf.float64),
                tf.zeros([num_envs], tf.int32),
            ),
            returns=tf.zeros([num_envs]),
            replay=self._collector.replay.initial_state(),
            window=GraphInterval.empty(),
        )

    def _run_chunk(self, state: LoopState, stop: Tensor) -> tuple[LoopState, Tensor, Tensor]:
        """Iterates up to iteration `stop`.

        Returns:
          The state after it; the ended log intervals, float64 [rows, 2 + window]; their number.
        """
        key = tf.constant(stream_key(self._config.training.seed, Stream.TRAINING), tf.int64)
        log_interval = self._config.training.log_interval

        def body(state: LoopState, table: Tensor, row: Tensor) -> tuple[LoopState, Tensor, Tensor]:
            state = self._iterate(state, key)
            # A row is written at each iteration and left behind when its interval ends: cheaper
            # than a branch.
            counters = [tf.cast(state.iteration, tf.float64), tf.cast(state.env_steps, tf.float64)]
            values = tf.stack([*counters, *state.window])[None]
            table = xla.dynamic_update_slice(table, values, tf.stack([row, 0]))
            ended = tf.equal(tf.math.floormod(state.iteration, log_interval), 0)
            window = GraphInterval(*[tf.where(ended, tf.zeros_like(x), x) for x in state.window])
            return state._replace(window=window), table, row + tf.cast(ended, tf.int32)

        table = tf.zeros([self._rows, 2 + len(GraphInterval._fields)], tf.float64)
        state, table, row = tf.while_loop(
            lambda state, *_: state.iteration < stop, body, (state, table, tf.constant(0))
        )
        return state, table, row

    def _iterate(self, state: LoopState, key: Tensor) -> LoopState:
        training = self._config.training
        collect_bits = training.collect_steps_per_iteration * self._collector.bits_a_step
        sample_bits = training.gradient_steps_per_iteration * training.batch_size
        bits = draw(key, state.iteration, collect_bits + sample_bits)
        collect = tf.reshape(bits[:collect_bits], [-1, self._collector.bits_a_step])
        sample = tf.reshape(bits[collect_bits:], [-1, training.batch_size])

        state = _repeat(
            training.collect_steps_per_iteration,
            lambda i, state: self._collect(state, collect[i]),
            state,
        )
        state = _repeat(
            training.gradient_steps_per_iteration,
            lambda i, state: self._update(state, sample[i]),
            state,
        )
        return state._replace(iteration=state.iteration + 1)

    def _collect(self, state: LoopState, bits: Tensor) -> LoopState:
        """One step of the behaviour policy in every environment, into the replay."""
        collector = self._collector
        coins, choices, moves = collector.split(bits)
        exploration = _at(self._exploration, state)
        q_values = self.learner.q_values(collector.environment.observe(state.episodes))
        action = self._policy(q_values, exploration, coins, choices)
        return collector.step(state, action, moves, exploration)

    def _update(self, state: LoopState, bits: Tensor) -> LoopState:
        replay = self._collector.replay
        batch = replay.sample(state.replay, bits, _at(self._beta, state))
        learned = self.learner.update(batch.transitions, batch.importance_weights)
        return state._replace(
            replay=replay.update_priorities(state.replay, batch.rows, learned.td_errors),
            window=state.window.plus(updates=1, loss=learned.loss),
        )


def _at(schedule: Schedule, state: LoopState) -> Tensor:
    """What a schedule comes to, float64 scalar."""
    return tf.convert_to_tensor(schedule(tf.cast(state.env_steps, tf.float64)), tf.float64)


def _repeat(
    count: int, step: Callable[[Tensor, LoopState], LoopState], state: LoopState
) -> LoopState:
    """`count` steps in the graph; a single one without the cost of a loop."""
    if count == 0:
        return state
    if count == 1:
        return step(0, state)
    _, state = tf.while_loop(
        lambda i, _: i < count,
        lambda i, state: (i + 1, step(i, state)),
        (tf.constant(0), state),
    )
    return state
