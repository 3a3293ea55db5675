"""The host loop: Gymnasium environments and replay in Python, updates and actions compiled.

An iteration takes collect_steps_per_iteration steps of the behaviour policy in every environment,
then gradient_steps_per_iteration updates. All updates of an iteration and the Q-values for the next
step are one call into a compiled function: the call costs more than a small update does. So the
batches of an iteration are drawn together, by the priorities that it began with.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from dqnkit.agents.exploration import HOST_POLICIES
from dqnkit.agents.learner import DqnLearner
from dqnkit.agents.policies import Weights
from dqnkit.agents.schedules import beta_schedule, exploration_schedule
from dqnkit.config.sections import Config
from dqnkit.config.seeds import Stream, stream_key, stream_seeds
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.loops.base import Arrays, IntervalMetrics
from dqnkit.loops.episodes import (
    EpisodeStats,
    HostInterval,
    parts_of,
    random_state,
    set_random_state,
)
from dqnkit.loops.updates import CompiledUpdates
from dqnkit.replay.factory import make_host_replay


class HostLoop:
    """Training in Gymnasium's vector environments (`Loop`)."""

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        """Makes environments, replay and agent.

        Args:
          config: Resolved.
          spec: Of its environment.

        Raises:
          ConfigError: They do not fit into this machine, or cannot be made.
        """
        seed = config.training.seed
        self._config = config
        self._spec = spec
        self.learner = DqnLearner(config, spec, stream_key(seed, Stream.WEIGHTS))
        self._policy = HOST_POLICIES[config.exploration.policy]
        self._exploration = exploration_schedule(config.exploration)
        self._beta = beta_schedule(config)
        self._rng = np.random.Generator(np.random.Philox(stream_key(seed, Stream.TRAINING)))
        self._iteration = 0
        self._env_steps = 0
        self._window = HostInterval()
        with ExitStack() as unfinished:
            self._replay = make_host_replay(config, spec)
            unfinished.callback(self._replay.close)
            self._updates = CompiledUpdates(
                config, spec, self.learner, frames=self._replay.frames_per_sample, acts=True
            )
            self._environment = VectorEnvironment(config.env, spec, config.env.num_envs)
            unfinished.callback(self._environment.close)
            self._resources = unfinished.pop_all()

    # -- Loop

    @property
    def iteration(self) -> int:
        """See `Loop`."""
        return self._iteration

    @property
    def env_steps(self) -> int:
        """See `Loop`."""
        return self._env_steps

    def check(self) -> None:
        """See `Loop`."""
        self._replay.check()

    def start(self) -> None:
        """See `Loop`."""
        self.check()
        self._updates.warm_up()
        if self._env_steps > 0:  # restored
            return
        self._begin_episodes()
        # A replay may keep a transition back until its return is whole: then it takes more steps.
        initial = self._config.training.initial_collect_steps
        while self._env_steps < initial or not self._replay.num_transitions:
            actions = self._rng.integers(self._spec.num_actions, size=self._config.env.num_envs)
            self._step(actions, exploration=1.0)
        self._window = HostInterval()

    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        """See `Loop`."""
        metrics = []
        for _ in range(num_iterations):
            self._iterate()
            if self._iteration % self._config.training.log_interval == 0:
                metrics.append(self._window.metrics(self._iteration, self._env_steps))
                self._window = HostInterval()
        return metrics

    def flush(self) -> list[IntervalMetrics]:
        """See `Loop`."""
        if self._window.steps == 0:
            return []
        metrics = self._window.metrics(self._iteration, self._env_steps)
        self._window = HostInterval()
        return [metrics]

    def notes(self) -> list[str]:
        """See `Loop`."""
        return []

    def policy_weights(self) -> Weights:
        """See `Loop`."""
        return self.learner.policy_weights()

    def state(self) -> Arrays:
        """See `Loop`. The environments are not in it: a restored loop starts new episodes."""
        arrays = {
            "loop/counters": np.array([self._iteration, self._env_steps]),
            "loop/window": np.array(list(vars(self._window).values())),
        }
        arrays |= {f"random/{k}": v for k, v in random_state(self._rng).items()}
        arrays |= {f"replay/{k}": v for k, v in self._replay.state().items()}
        return arrays | {f"agent/{k}": v.numpy() for k, v in self.learner.variables().items()}

    def restore(self, state: Arrays) -> None:
        """See `Loop`. Call it in place of `start`, or before it."""
        parts = parts_of(state)
        self._replay.restore(parts["replay"])
        self.learner.restore(parts["agent"])
        set_random_state(self._rng, parts["random"])
        self._iteration, self._env_steps = (int(x) for x in parts["loop"]["counters"])
        self._window = HostInterval(*map(float, parts["loop"]["window"]))
        self._begin_episodes()

    def close(self) -> None:
        """See `Loop`."""
        self._resources.close()

    # -- Collecting

    def _begin_episodes(self) -> None:
        num_envs = self._config.env.num_envs
        # From the start, those of `seeds.training_environment_seeds`, which evaluation avoids.
        key = stream_key(self._config.training.seed, Stream.ENVIRONMENTS)
        self._environment.reset(stream_seeds(key, self._env_steps, num_envs))
        self._replay.begin(np.arange(num_envs), self._environment.frame)
        self._episodes = EpisodeStats(num_envs)
        self._q_values: np.ndarray | None = None

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
        """One step of every environment, into the replay."""
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
        self._window.steps += envs.size
        self._window.exploration += exploration * envs.size
        self._window.count(self._episodes.ended(step))

    def _current_q_values(self) -> np.ndarray:
        if self._q_values is None:
            self._q_values = self._updates.q_values(self._environment.observation)
        return self._q_values

    # -- Learning

    def _update(self) -> None:
        sample = self._replay.sample(self._rng, self._updates.drawn)
        beta = self._beta(self._env_steps)
        learned = self._updates(sample, beta, self._environment.observation)
        self._replay.update_priorities(sample.rows, learned.td_errors)
        self._q_values = learned.q_values
        self._window.updates += self._config.training.gradient_steps_per_iteration
        self._window.loss += learned.loss
