"""The graph loop: environment, replay, sampling and update in one XLA program.

One call of `_chunk` runs any number of iterations, each of
  collect_steps_per_iteration steps of the behaviour policy in every environment, then
  gradient_steps_per_iteration updates on sampled batches (`DqnLearner.update`).
The state of the loop is an argument and a result of the call. The only other state is in the
variables of the agent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from dqnkit._system.arrays import Arrays
from dqnkit._system.random_bits import below, draw, uniform
from dqnkit._system.tensorflow import Tensor, tf, xla
from dqnkit.agents.exploration import GRAPH_POLICIES
from dqnkit.agents.learner import DqnLearner
from dqnkit.agents.schedules import Schedule, beta_schedule, exploration_schedule
from dqnkit.config.random_streams import Stream, stream_key
from dqnkit.config.sections import Config, ReplayConfig
from dqnkit.envs.dynamics import BatchedEnvironment, Dynamics, EpisodeState
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.transitions import Transitions
from dqnkit.errors import ConfigError
from dqnkit.loops.base import IntervalMetrics, IntervalSums, Loop
from dqnkit.loops.state import named_leaves, prefixed, require_exactly, section
from dqnkit.replay.factory import make_graph_replay
from dqnkit.replay.graph_uniform import GraphUniformReplay, ReplayState

TABLE = "loop/replay/table"
"""Name of the replay's table in `GraphLoop.state`."""
MAX_CHUNK = 20_000
"""Maximum number of iterations per call, which bounds the table of metrics that it returns."""


class GraphInterval(NamedTuple):
    """Sums over the log interval under way; float64 scalars."""

    updates: Tensor
    loss: Tensor
    steps: Tensor
    exploration: Tensor
    episodes: Tensor
    returns: Tensor
    lengths: Tensor

    @classmethod
    def empty(cls) -> GraphInterval:
        """Return sums of zero."""
        return cls(*[tf.constant(0.0, tf.float64)] * len(cls._fields))

    def plus(self, **amounts: Tensor) -> GraphInterval:
        """Return the sums with amounts added."""
        sums = {name: getattr(self, name) + tf.cast(v, tf.float64) for name, v in amounts.items()}
        return self._replace(**sums)


class LoopState(NamedTuple):
    """Explicit state of the loop: with the learner's variables it decides all that follows.

    Random numbers are functions of (stream key, iteration), so there is no generator to save.
    """

    iteration: Tensor
    """int64 scalar."""
    env_steps: Tensor
    """int64 scalar."""
    episodes: EpisodeState
    returns: Tensor
    """Undiscounted return so far of the episode in each environment, float32 [num_envs]."""
    replay: ReplayState
    interval: GraphInterval


class Collector:
    """Steps of all environments into the replay, for actions chosen by the caller."""

    def __init__(self, dynamics: Dynamics, num_envs: int, replay: GraphUniformReplay) -> None:
        self._num_envs = num_envs
        self.dynamics = dynamics
        self.environment = BatchedEnvironment(dynamics)
        self.replay = replay
        self.bits_per_step = num_envs * (2 + self.environment.num_uniforms)

    def split(self, bits: Tensor) -> list[Tensor]:
        """Split the random bits of a step: whether to explore, the action, the environment."""
        num_envs = self._num_envs
        sizes = [num_envs, num_envs, num_envs * self.environment.num_uniforms]
        parts: list[Tensor] = tf.split(bits, sizes)
        return parts

    def step(
        self, state: LoopState, action: Tensor, dynamics_bits: Tensor, exploration: Tensor
    ) -> LoopState:
        """Step every environment with actions int32 [num_envs]."""
        num_envs = self._num_envs
        observation = self.environment.observe(state.episodes)
        episodes, timestep = self.environment.step(
            state.episodes,
            action,
            tf.reshape(uniform(dynamics_bits), [num_envs, self.environment.num_uniforms]),
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
        interval = state.interval.plus(
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
            interval=interval,
        )

    def fill(self, state: LoopState, key: Tensor, steps: Tensor) -> LoopState:
        """Reset the environments and take the initial steps with random actions."""
        shape = [self._num_envs, self.dynamics.num_reset_uniforms]
        first = uniform(draw(key, tf.constant(-1, tf.int64), shape[0] * shape[1]))
        state = state._replace(episodes=self.environment.reset(tf.reshape(first, shape)))

        def body(i: Tensor, state: LoopState) -> tuple[Tensor, LoopState]:
            _, action_bits, dynamics_bits = self.split(draw(key, i, self.bits_per_step))
            action = below(action_bits, self.dynamics.num_actions)
            return i + 1, self.step(state, action, dynamics_bits, tf.constant(1.0, tf.float64))

        _, state = tf.while_loop(lambda i, _: i < steps, body, (tf.constant(0, tf.int64), state))
        return state._replace(interval=GraphInterval.empty())


@lru_cache(maxsize=4)
def _compiled_fill(
    dynamics: Dynamics, num_envs: int, replay: ReplayConfig
) -> Callable[..., LoopState]:
    """Compile `Collector.fill`, which is the same for all seeds and most trials of a search."""
    storage = make_graph_replay(replay, num_envs, dynamics.observation_size)
    collector = Collector(dynamics, num_envs, storage)
    compiled: Callable[..., LoopState] = tf.function(
        collector.fill, jit_compile=True, autograph=False
    )
    return compiled


class GraphLoop(Loop):
    """Training in an environment whose dynamics are TensorFlow operations."""

    def __init__(self, config: Config, spec: EnvSpec, dynamics: Dynamics) -> None:
        """Make the agent, the replay and the initial state.

        Args:
          config: The resolved configuration.
          spec: Specification of its environment.
          dynamics: Dynamics of its environment.

        Raises:
          ConfigError: If the replay does not fit into memory.
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
        # `tf.function` is applied at the outermost edge only; all below are plain functions.
        self._fill = _compiled_fill(dynamics, num_envs, config.replay)
        self._chunk = tf.function(self._run_chunk, jit_compile=True, autograph=False)

    @property
    @override
    def iteration(self) -> int:
        return int(self._state.iteration)

    @property
    @override
    def env_steps(self) -> int:
        return int(self._state.env_steps)

    @override
    def check(self) -> None:
        """Return at once: the loop depends on nothing outside itself."""

    @override
    def compile(self) -> None:
        no_iterations = tf.constant(0, tf.int64)
        self._chunk(self._state, no_iterations)

    @override
    def fill(self, seconds: float = math.inf) -> bool:
        del seconds  # one call takes all steps
        if self.env_steps == 0:
            steps = -(-self._config.training.initial_collect_steps // self._config.env.num_envs)
            key = stream_key(self._config.training.seed, Stream.INITIAL_COLLECT)
            self._state = self._fill(
                self._state, tf.constant(key, tf.int64), tf.constant(steps, tf.int64)
            )
        return True

    @override
    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        metrics: list[IntervalMetrics] = []
        end = self.iteration + num_iterations
        while self.iteration < end:
            stop = tf.constant(min(end, self.iteration + MAX_CHUNK), tf.int64)
            self._state, table, rows = self._chunk(self._state, stop)
            metrics += [IntervalSums(*row).metrics() for row in table.numpy()[: int(rows)]]
        return metrics

    @override
    def flush(self) -> list[IntervalMetrics]:
        if float(self._state.interval.steps) == 0:
            return []
        row = [self.iteration, self.env_steps, *(float(x) for x in self._state.interval)]
        self._state = self._state._replace(interval=GraphInterval.empty())
        return [IntervalSums(*row).metrics()]

    @override
    def policy_weights(self) -> np.ndarray:
        return self.learner.policy_weights()

    @override
    def state(self) -> Arrays:
        """Return the exact state, with only the filled rows of the replay's table."""
        arrays = {k: v.numpy() for k, v in named_leaves("loop", self._state).items()}
        arrays[TABLE] = arrays[TABLE][: int(self._state.replay.added)]
        variables = {k: v.numpy() for k, v in self.learner.variables().items()}
        return arrays | prefixed("agent", variables)

    @override
    def restore(self, state: Arrays) -> None:
        leaves = named_leaves("loop", self._state)
        require_exactly(state, "loop", leaves)
        for name, tensor in leaves.items():
            _check_shape(state, name, tuple(tensor.shape))
        self.learner.restore(section(state, "agent"))
        table = np.zeros(leaves[TABLE].shape, np.float32)
        table[: len(state[TABLE])] = state[TABLE]
        arrays = {name: state[name] for name in leaves} | {TABLE: table}
        self._state = tf.nest.pack_sequence_as(self._state, list(map(tf.constant, arrays.values())))

    @override
    def close(self) -> None:
        """Return at once: there is nothing to close."""

    # -- Inside the compiled program

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
            interval=GraphInterval.empty(),
        )

    def _run_chunk(self, state: LoopState, stop: Tensor) -> tuple[LoopState, Tensor, Tensor]:
        """Iterate up to iteration `stop`.

        Returns:
          The new state; a table of the log intervals that ended, float64 [rows, fields of
          `IntervalSums`]; the number of its rows that are filled.
        """
        key = tf.constant(stream_key(self._config.training.seed, Stream.TRAINING), tf.int64)
        log_interval = self._config.training.log_interval

        def body(state: LoopState, table: Tensor, row: Tensor) -> tuple[LoopState, Tensor, Tensor]:
            state = self._iterate(state, key)
            # The row is written in every iteration and becomes final when its interval ends, which
            # is cheaper than a branch.
            counters = [tf.cast(state.iteration, tf.float64), tf.cast(state.env_steps, tf.float64)]
            values = tf.stack([*counters, *state.interval])[None]
            table = xla.dynamic_update_slice(table, values, tf.stack([row, 0]))
            ended = tf.equal(tf.math.floormod(state.iteration, log_interval), 0)
            interval = GraphInterval(
                *[tf.where(ended, tf.zeros_like(x), x) for x in state.interval]
            )
            return state._replace(interval=interval), table, row + tf.cast(ended, tf.int32)

        table = tf.zeros([self._rows, 2 + len(GraphInterval._fields)], tf.float64)
        state, table, row = tf.while_loop(
            lambda state, *_: state.iteration < stop, body, (state, table, tf.constant(0))
        )
        return state, table, row

    def _iterate(self, state: LoopState, key: Tensor) -> LoopState:
        training = self._config.training
        collect_bits = training.collect_steps_per_iteration * self._collector.bits_per_step
        sample_bits = training.gradient_steps_per_iteration * training.batch_size
        bits = draw(key, state.iteration, collect_bits + sample_bits)
        collect = tf.reshape(bits[:collect_bits], [-1, self._collector.bits_per_step])
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
        """Take one step of the behaviour policy in every environment."""
        collector = self._collector
        explore_bits, action_bits, dynamics_bits = collector.split(bits)
        exploration = _at(self._exploration, state)
        q_values = self.learner.q_values(collector.environment.observe(state.episodes))
        action = self._policy(q_values, exploration, explore_bits, action_bits)
        return collector.step(state, action, dynamics_bits, exploration)

    def _update(self, state: LoopState, bits: Tensor) -> LoopState:
        """Sample a batch and update on it; `DqnLearner.update` states the TD target."""
        replay = self._collector.replay
        batch = replay.sample(state.replay, bits, _at(self._beta, state))
        info = self.learner.update(batch.transitions, batch.importance_weights)
        return state._replace(
            replay=replay.update_priorities(state.replay, batch.rows, info.td_errors),
            interval=state.interval.plus(updates=1, loss=info.loss),
        )


def _at(schedule: Schedule, state: LoopState) -> Tensor:
    """Return the value of a schedule at the current environment step, float64 scalar."""
    return tf.convert_to_tensor(schedule(tf.cast(state.env_steps, tf.float64)), tf.float64)


def _repeat(
    count: int, step: Callable[[Tensor, LoopState], LoopState], state: LoopState
) -> LoopState:
    """Apply `count` steps in the graph; a single one without the cost of a loop."""
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


def _check_shape(state: Arrays, name: str, wanted: tuple[int, ...]) -> None:
    given = state[name].shape
    if name == TABLE and given[:1] <= wanted[:1]:  # only filled rows are saved
        given = (*wanted[:1], *given[1:])
    if given != wanted:
        raise ConfigError(
            f"the saved state has shape {given} for {name!r}, and this loop needs {wanted}: "
            "restore it with the configuration that it was saved with"
        )
