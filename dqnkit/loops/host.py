"""The host loop: Gymnasium environments and replay in Python, updates and actions compiled.

One iteration takes collect_steps_per_iteration steps of the behaviour policy in each environment,
then makes gradient_steps_per_iteration updates. All updates of an iteration and the Q-values for
the next step are a single call into a compiled function, because a call takes longer than a small
update. The batches of an iteration are therefore drawn together, with the priorities at its start.
"""

from __future__ import annotations

import math
import time
from contextlib import ExitStack

import numpy as np
from typing_extensions import override

from dqnkit._system.arrays import Arrays
from dqnkit.agents.exploration import HOST_POLICIES
from dqnkit.agents.learner import DqnLearner
from dqnkit.agents.schedules import beta_schedule, exploration_schedule
from dqnkit.config.random_streams import Stream, stream_key, stream_seeds
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.loops.base import IntervalMetrics, Loop
from dqnkit.loops.episode_stats import EpisodeStats, HostInterval
from dqnkit.loops.state import generator_state, prefixed, require, restore_generator, section
from dqnkit.loops.updates import CompiledUpdates
from dqnkit.replay.base import HostReplay


class HostLoop(Loop):
    """Training in Gymnasium's vector environments."""

    def __init__(self, config: Config, spec: EnvSpec, replay: HostReplay) -> None:
        """Make the environments and the agent.

        Args:
          config: The resolved configuration.
          spec: Specification of its environment.
          replay: An empty replay, which the loop closes.

        Raises:
          ConfigError: If the environments cannot be made.
        """
        seed = config.training.seed
        self._config = config
        self._spec = spec
        self._replay = replay
        self._exploration = exploration_schedule(config.exploration)
        self._beta = beta_schedule(config)
        self._policy = HOST_POLICIES[config.exploration.policy]
        self._rng = np.random.Generator(np.random.Philox(stream_key(seed, Stream.TRAINING)))
        self._iteration = 0
        self._env_steps = 0
        self._interval = HostInterval()
        self._episodes = EpisodeStats(config.env.num_envs)
        self._q_values: np.ndarray | None = None
        """Q-values of the current observations; None if the last update did not compute them."""
        with ExitStack() as unfinished:
            unfinished.callback(replay.close)
            self.learner = DqnLearner(config, spec, stream_key(seed, Stream.WEIGHTS))
            self._updates = CompiledUpdates(
                config, spec, self.learner, frames=replay.frames_per_sample, acts=True
            )
            self._environment = VectorEnvironment(config.env, spec, config.env.num_envs)
            unfinished.callback(self._environment.close)
            self._resources = unfinished.pop_all()

    @property
    @override
    def iteration(self) -> int:
        return self._iteration

    @property
    @override
    def env_steps(self) -> int:
        return self._env_steps

    @property
    def environment(self) -> VectorEnvironment:
        """The environments of training, for evaluation that shares them."""
        return self._environment

    @override
    def check(self) -> None:
        self._replay.check()

    @override
    def warnings(self) -> list[str]:
        return self._environment.take_warnings()

    @override
    def observation_magnitudes(self) -> dict[str, float]:
        return self._environment.magnitudes()

    @override
    def compile(self) -> None:
        self.check()
        self._updates.warm_up()

    @override
    def fill(self, seconds: float = math.inf) -> bool:
        if self._iteration > 0:  # restored
            return True
        deadline = time.monotonic() + seconds
        if self._env_steps == 0:
            self.begin_episodes()
        while not self._is_filled():
            actions = self._rng.integers(self._spec.num_actions, size=self._config.env.num_envs)
            self._step(actions, exploration=1.0)
            if time.monotonic() > deadline:
                return False
        self._interval = HostInterval()
        return True

    def _is_filled(self) -> bool:
        # A replay may withhold a transition until its n-step return is complete: more steps then.
        initial = self._config.training.initial_collect_steps
        return self._env_steps >= initial and self._replay.num_transitions > 0

    @override
    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        metrics = []
        for _ in range(num_iterations):
            self._iterate()
            if self._iteration % self._config.training.log_interval == 0:
                metrics += self.flush()
        return metrics

    @override
    def flush(self) -> list[IntervalMetrics]:
        if self._interval.steps == 0:
            return []
        metrics = self._interval.metrics(self._iteration, self._env_steps)
        self._interval = HostInterval()
        return [metrics]

    @override
    def policy_weights(self) -> np.ndarray:
        return self.learner.policy_weights()

    @override
    def state(self) -> Arrays:
        """Return the state without the environments: a restored loop begins new episodes."""
        return {
            "loop/iteration": np.array(self._iteration),
            "loop/env_steps": np.array(self._env_steps),
            **prefixed("loop/interval", self._interval.arrays()),
            **prefixed("random", generator_state(self._rng)),
            **prefixed("replay", self._replay.state()),
            **prefixed("agent", {k: v.numpy() for k, v in self.learner.variables().items()}),
        }

    @override
    def restore(self, state: Arrays) -> None:
        require(state, "loop/iteration", "loop/env_steps", "loop/interval/loss", "random/buffer")
        self._replay.restore(section(state, "replay"))
        self.learner.restore(section(state, "agent"))
        restore_generator(self._rng, section(state, "random"))
        self._iteration = int(state["loop/iteration"])
        self._env_steps = int(state["loop/env_steps"])
        self._interval = HostInterval.from_arrays(section(state, "loop/interval"))
        self.begin_episodes()

    @override
    def close(self) -> None:
        self._resources.close()

    # -- Collecting

    def begin_episodes(self) -> None:
        """Begin new episodes in all environments, for example after an evaluation in them."""
        num_envs = self._config.env.num_envs
        # At step 0 these are `seeds.training_environment_seeds`, which evaluation avoids.
        key = stream_key(self._config.training.seed, Stream.ENVIRONMENTS)
        self._environment.reset(stream_seeds(key, self._env_steps, num_envs))
        self._replay.begin(np.arange(num_envs), self._environment.frame)
        self._episodes = EpisodeStats(num_envs)
        self._q_values = None

    def _iterate(self) -> None:
        training = self._config.training
        for _ in range(training.collect_steps_per_iteration):
            exploration = self._exploration(self._env_steps)
            shape = (self._config.env.num_envs, self._spec.num_actions)
            actions = self._policy(self._current_q_values, exploration, self._rng, shape)
            self._step(actions, exploration)
        if training.gradient_steps_per_iteration:
            self._update()
        self._iteration += 1

    def _step(self, actions: np.ndarray, exploration: float) -> None:
        """Step every environment and add the transitions to the replay."""
        self._q_values = None
        step = self._environment.step(actions)
        envs = np.flatnonzero(step.stepped)
        self._replay.add(
            envs, actions[envs], step.reward[envs], step.terminated[envs], step.frame[envs]
        )
        if step.started.any():
            begun = np.flatnonzero(step.started)
            self._replay.begin(begun, self._environment.frame[begun])
        self._env_steps += envs.size
        self._interval.steps += envs.size
        self._interval.exploration += exploration * envs.size
        self._interval.add_episodes(self._episodes.add(step))

    def _current_q_values(self) -> np.ndarray:
        if self._q_values is None:
            self._q_values = self._updates.q_values(self._environment.observation)
        return self._q_values

    # -- Learning

    def _update(self) -> None:
        sample = self._replay.sample(self._rng, self._updates.batch_total)
        beta = self._beta(self._env_steps)
        update = self._updates(sample, beta, self._environment.observation)
        self._replay.update_priorities(sample.rows, update.td_errors)
        self._q_values = update.q_values
        self._interval.updates += self._config.training.gradient_steps_per_iteration
        self._interval.loss += update.loss
