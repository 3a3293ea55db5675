"""The training loop of a learner whose actors are other processes, connected through Reverb.

An iteration consists of updates only. Reverb's rate limiter lets actors and learner wait for each
other, so that an iteration takes as many environment steps as in the host loop.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from typing_extensions import override

from dqnkit._system.arrays import Arrays
from dqnkit._system.commands import command_line
from dqnkit.agents.learner import DqnLearner
from dqnkit.agents.schedules import beta_schedule, exploration_schedule
from dqnkit.config import loading
from dqnkit.config.random_streams import Stream, stream_key
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.loops.base import IntervalMetrics, Loop
from dqnkit.loops.episode_stats import EndedEpisode, HostInterval
from dqnkit.loops.state import generator_state, prefixed, require, restore_generator, section
from dqnkit.loops.updates import CompiledUpdates
from dqnkit.reverb.actor_pool import ActorPool
from dqnkit.reverb.broadcast import Publisher
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.tables import LEARNER, RateLimits, TransitionSpec

_PUBLISH_SECONDS = 0.05
"""Interval at which the weights are published."""
_STALLED_SECONDS = 300.0
"""Time without a new transition after which the run is given up."""


class _WaitInterruptedError(Exception):
    """The caller has requested the run to end. Raised to leave a wait for actors."""


class LearnerLoop(Loop):
    """Training from transitions that actors collect."""

    def __init__(
        self, config: Config, spec: EnvSpec, interrupted: Callable[[], object] = lambda: False
    ) -> None:
        """Make replay and agent; `start` starts the actors.

        Args:
          config: The resolved configuration.
          spec: Specification of its environment.
          interrupted: Returns a true value to end a wait for actors.

        Raises:
          ConfigError: If the replay does not fit into the machine's memory, or its server was
            started for another experiment.
          ReplayError: If the replay server does not answer.
        """
        training, agent = config.training, config.agent
        self._config = config
        self._interrupted = interrupted
        transition_spec = TransitionSpec(spec, agent.n_step, agent.gamma)
        self.learner = DqnLearner(config, spec, stream_key(training.seed, Stream.WEIGHTS))
        with ExitStack() as unfinished:
            self._replay = ReverbReplay(
                config.replay, 0, transition_spec, RateLimits.from_config(config)
            )
            unfinished.callback(self._replay.close)
            self._updates = CompiledUpdates(
                config, spec, self.learner, frames=self._replay.frames_per_sample, acts=False
            )
            unfinished.pop_all()
        self._exploration = exploration_schedule(config.exploration)
        self._beta = beta_schedule(config)
        # Reverb does the sampling. The generator is part of the state of every loop.
        self._rng = np.random.Generator(
            np.random.Philox(stream_key(training.seed, Stream.TRAINING))
        )
        self._iteration = 0
        self._env_steps = 0
        self._num_inserted = 0
        """Transitions that the server had counted at the last call of `_count_steps`."""
        self._earlier_steps = 0
        """Environment steps that the server's count does not include."""
        self._interval = HostInterval()
        self._publish_at = 0.0
        self._last_progress = time.monotonic()
        self._actors: ActorPool | None = None
        self._is_restored = False

    # -- Loop

    @property
    @override
    def iteration(self) -> int:
        return self._iteration

    @property
    @override
    def env_steps(self) -> int:
        """Number of transitions that the server has received."""
        return self._env_steps

    @override
    def check(self) -> None:
        self._replay.check()
        self._check_no_other_learner()

    @override
    def compile(self) -> None:
        self.check()  # again: another learner may have come since
        self._publisher = Publisher(self._replay.server, loading.dump(self._config))
        self._publish()
        self._actors = ActorPool(self._replay.server.address, self._config.training.num_actors or 0)
        self._updates.warm_up()  # while the actors load TensorFlow
        self._last_progress = time.monotonic()

    @override
    def fill(self, seconds: float = math.inf) -> bool:
        deadline = time.monotonic() + seconds
        with contextlib.suppress(_WaitInterruptedError):
            while self._env_steps < self._config.training.initial_collect_steps:
                self._attend_actors()
                time.sleep(_PUBLISH_SECONDS / 5)
                if time.monotonic() > deadline:
                    return False
        if not self._is_restored:
            self._interval = HostInterval()
        return True

    @override
    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        log_interval = self._config.training.log_interval
        metrics = []
        self._last_progress = time.monotonic()  # evaluations since the last call are no stall
        with contextlib.suppress(_WaitInterruptedError):
            for _ in range(num_iterations):
                self._iterate()
                if self._iteration % log_interval == 0:
                    metrics.append(self._close_interval())
            self._attend_actors()
        return metrics

    @override
    def flush(self) -> list[IntervalMetrics]:
        return [self._close_interval()] if self._interval.updates else []

    @override
    def warnings(self) -> list[str]:
        return self._actors.warnings() if self._actors is not None else []

    @override
    def policy_weights(self) -> np.ndarray:
        return self.learner.policy_weights()

    @override
    def state(self) -> Arrays:
        """Return the state without the actors: a restored loop starts new ones."""
        replay = self._replay.state()
        self._count_steps()
        return {
            "loop/iteration": np.array(self._iteration),
            "loop/env_steps": np.array(self._env_steps),
            "loop/inserted": np.array(self._num_inserted),
            **prefixed("loop/interval", self._interval.arrays()),
            **prefixed("random", generator_state(self._rng)),
            **prefixed("replay", replay),
            **prefixed("agent", {k: v.numpy() for k, v in self.learner.variables().items()}),
        }

    @override
    def restore(self, state: Arrays) -> None:
        require(state, "loop/iteration", "loop/env_steps", "loop/inserted", "loop/interval/loss")
        require(state, "random/buffer")
        self._replay.restore(section(state, "replay"))
        self.learner.restore(section(state, "agent"))
        restore_generator(self._rng, section(state, "random"))
        self._iteration = int(state["loop/iteration"])
        self._env_steps = int(state["loop/env_steps"])
        self._interval = HostInterval.from_arrays(section(state, "loop/interval"))
        # A server that kept running has received transitions since the checkpoint. A restarted
        # server has counted fewer.
        inserted = min(int(state["loop/inserted"]), self._replay.num_inserted)
        self._earlier_steps = self._env_steps - inserted
        self._is_restored = True

    @override
    def close(self) -> None:
        with ExitStack() as resources:
            resources.callback(self._replay.close)
            if self._actors is not None:
                resources.callback(self._actors.close)
                with contextlib.suppress(ReplayError):  # without a server, no actor waits
                    self._release_remote_actors()

    def _iterate(self) -> None:
        sample = self._replay.sample(self._rng, self._updates.batch_total, self._attend_actors)
        update = self._updates(sample, self._beta(self._env_steps))
        self._replay.update_priorities(sample.rows, update.td_errors)
        self._iteration += 1
        self._interval.updates += self._config.training.gradient_steps_per_iteration
        self._interval.loss += update.loss
        if time.monotonic() >= self._publish_at:
            self._attend_actors()
            self._last_progress = time.monotonic()

    # -- Actors

    def _attend_actors(self) -> None:
        """Publish the weights, count new transitions, and replace dead actors.

        Raises:
          _WaitInterruptedError: If the caller has requested the run to end.
          ReplayError: If no transition has arrived for a long time.
          WorkerError: If several actors died and no transition arrived.
        """
        if self._interrupted():
            raise _WaitInterruptedError
        before = self._env_steps
        self._publish()
        if self._env_steps > before:
            self._last_progress = time.monotonic()
        elif time.monotonic() > self._last_progress + _STALLED_SECONDS:
            address = self._replay.server.address
            raise ReplayError(
                f"no transition has come to {address} for {_STALLED_SECONDS:.0f} s: no actor is "
                "connected, or their environments hang; start actors with "
                f"`{command_line('actor', connect=address)}`"
            )
        if self._actors is not None:
            self._actors.replace_dead(progressed=self._env_steps > before)

    def _release_remote_actors(self) -> None:
        """Let actors on other machines end, or wait for the run to be resumed."""
        if self._iteration >= self._config.training.num_iterations:
            self._publish(is_over=True)
        elif self._config.replay.address is not None:
            self._publisher.withdraw()

    def _check_no_other_learner(self) -> None:
        """Check that no learner publishes at the server: two runs would share their transitions.

        Raises:
          ConfigError: If another learner publishes.
        """
        if self._config.replay.address is None:
            return

        def num_published() -> int:
            return int(self._replay.server.info(LEARNER).rate_limiter_info.insert_stats.completed)

        before = num_published()
        time.sleep(10 * _PUBLISH_SECONDS)
        if num_published() > before:
            address = self._replay.server.address
            raise ConfigError(
                f"replay.address={address}: another learner trains with the server there: wait for "
                "it, or start a server for this run"
            )

    def _publish(self, *, is_over: bool = False) -> None:
        self._publish_at = time.monotonic() + _PUBLISH_SECONDS
        self._count_steps()
        self._publisher.publish(
            self.policy_weights(), self._env_steps, self._replay.max_priority, is_over=is_over
        )

    def _count_steps(self) -> None:
        """Add the transitions that have arrived since the last call to the environment steps."""
        inserted = self._replay.num_inserted
        if inserted < self._num_inserted:  # restarted, the server counts from another number
            self._earlier_steps += self._num_inserted - inserted
        self._num_inserted = inserted
        steps = self._earlier_steps + inserted
        self._interval.steps += steps - self._env_steps
        exploration = self._exploration(self._env_steps)
        if self._env_steps < self._config.training.initial_collect_steps:
            exploration = 1.0
        self._interval.exploration += exploration * (steps - self._env_steps)
        self._env_steps = steps

    def _close_interval(self) -> IntervalMetrics:
        self._count_steps()
        ended = self._publisher.episodes()
        self._interval.add_episodes([EndedEpisode(*each) for each in ended])
        metrics = self._interval.metrics(self._iteration, self._env_steps)
        self._interval = HostInterval()
        return metrics
