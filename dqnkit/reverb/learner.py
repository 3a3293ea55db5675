"""The learner of a run whose actors are processes of their own; Reverb is between them.

An iteration is its updates alone. Reverb's rate limiter lets actors and learner wait for each
other, so that as many environment steps come to an iteration as in the host loop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from dqnkit.agents.learner import DqnLearner
from dqnkit.agents.policies import Weights
from dqnkit.agents.schedules import beta_schedule, exploration_schedule
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.config.seeds import Stream, stream_key
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.loops.base import Arrays, IntervalMetrics
from dqnkit.loops.episodes import (
    EndedEpisode,
    HostInterval,
    parts_of,
    random_state,
    set_random_state,
)
from dqnkit.loops.updates import CompiledUpdates
from dqnkit.reverb.actor_pool import ActorPool
from dqnkit.reverb.broadcast import Publisher
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.tables import LEARNER, RateLimits, TransitionSpec

_PUBLISH_SECONDS = 0.05
"""Between two publications of the weights."""
_STALLED_SECONDS = 300.0
"""Without a transition to learn from, before the run is given up."""


class _InterruptedWait(Exception):  # noqa: N818 - nothing is wrong
    """Whoever runs the loop wants to end it."""


class LearnerLoop:
    """Training from what actors collect (`Loop`)."""

    def __init__(
        self, config: Config, spec: EnvSpec, interrupted: Callable[[], object] = lambda: False
    ) -> None:
        """Makes replay and agent; the actors come with `start`.

        Args:
          config: Resolved.
          spec: Of its environment.
          interrupted: Whether to wait for actors no longer.

        Raises:
          ConfigError: The replay does not fit into this machine, or its server keeps other things.
          ReplayError: Its server does not answer.
        """
        training, agent = config.training, config.agent
        self._config = config
        self._interrupted = interrupted
        recipe = TransitionSpec(spec, agent.n_step, agent.gamma)
        self.learner = DqnLearner(config, spec, stream_key(training.seed, Stream.WEIGHTS))
        with ExitStack() as unfinished:
            self._replay = ReverbReplay(config.replay, 0, recipe, RateLimits.of(config))
            unfinished.callback(self._replay.close)
            self._updates = CompiledUpdates(
                config, spec, self.learner, frames=self._replay.frames_per_sample, acts=False
            )
            unfinished.pop_all()
        self._exploration = exploration_schedule(config.exploration)
        self._beta = beta_schedule(config)
        # Draws nothing: Reverb does. It is in the state as of every loop.
        self._rng = np.random.Generator(
            np.random.Philox(stream_key(training.seed, Stream.TRAINING))
        )
        self._iteration = 0
        self._env_steps = 0
        self._inserted = 0
        """Transitions that the server has counted, when it was asked last."""
        self._before = 0
        """Environment steps beside them."""
        self._window = HostInterval()
        self._publish_at = 0.0
        self._heard_at = time.monotonic()
        self._actors: ActorPool | None = None
        self._is_restored = False

    # -- Loop

    @property
    def iteration(self) -> int:
        """See `Loop`."""
        return self._iteration

    @property
    def env_steps(self) -> int:
        """See `Loop`: transitions that have come to the server."""
        return self._env_steps

    def check(self) -> None:
        """See `Loop`."""
        self._replay.check()
        self._expect_no_learner()

    def start(self) -> None:
        """See `Loop`."""
        self.check()  # once more: others may have come since
        self._publisher = Publisher(self._replay.server, loading.dump(self._config))
        self._publish()
        self._actors = ActorPool(self._replay.server.address, self._config.training.num_actors or 0)
        self._updates.warm_up()  # while they load
        self._heard_at = time.monotonic()
        with contextlib.suppress(_InterruptedWait):
            while self._env_steps < self._config.training.initial_collect_steps:
                self._look_after_actors()
                time.sleep(_PUBLISH_SECONDS / 5)
        if not self._is_restored:
            self._window = HostInterval()

    def advance(self, num_iterations: int) -> list[IntervalMetrics]:
        """See `Loop`."""
        log_interval = self._config.training.log_interval
        metrics = []
        self._heard_at = time.monotonic()  # actors were not waited for in between
        with contextlib.suppress(_InterruptedWait):
            for _ in range(num_iterations):
                self._iterate()
                if self._iteration % log_interval == 0:
                    metrics.append(self._close_window())
            self._look_after_actors()
        return metrics

    def flush(self) -> list[IntervalMetrics]:
        """See `Loop`."""
        return [self._close_window()] if self._window.updates else []

    def notes(self) -> list[str]:
        """See `Loop`."""
        return self._actors.notes() if self._actors is not None else []

    def policy_weights(self) -> Weights:
        """See `Loop`."""
        return self.learner.policy_weights()

    def state(self) -> Arrays:
        """See `Loop`. The actors are not in it: a restored loop starts new ones."""
        arrays = {f"replay/{k}": v for k, v in self._replay.state().items()}
        self._count_steps()
        arrays |= {
            "loop/counters": np.array([self._iteration, self._env_steps]),
            "loop/inserted": np.array(self._inserted),
            "loop/window": np.array(list(vars(self._window).values())),
        }
        arrays |= {f"random/{k}": v for k, v in random_state(self._rng).items()}
        return arrays | {f"agent/{k}": v.numpy() for k, v in self.learner.variables().items()}

    def restore(self, state: Arrays) -> None:
        """See `Loop`."""
        parts = parts_of(state)
        self._replay.restore(parts["replay"])
        self.learner.restore(parts["agent"])
        set_random_state(self._rng, parts["random"])
        self._iteration, self._env_steps = (int(x) for x in parts["loop"]["counters"])
        self._window = HostInterval(*map(float, parts["loop"]["window"]))
        inserted, then = self._replay.num_inserted, int(parts["loop"]["inserted"])
        # A server that has lived on has heard actors meanwhile; another counts from 0 again.
        self._before = self._env_steps - (min(then, inserted))
        self._is_restored = True

    def close(self) -> None:
        """See `Loop`."""
        with ExitStack() as all_of_it:
            all_of_it.callback(self._replay.close)
            if self._actors is not None:
                all_of_it.callback(self._actors.close)
                with contextlib.suppress(ReplayError):  # the server is gone, and all it held
                    self._take_leave()

    def _iterate(self) -> None:
        sample = self._replay.sample(self._rng, self._updates.drawn, self._look_after_actors)
        learned = self._updates(sample, self._beta(self._env_steps))
        self._replay.update_priorities(sample.rows, learned.td_errors)
        self._iteration += 1
        self._window.updates += self._config.training.gradient_steps_per_iteration
        self._window.loss += learned.loss
        if time.monotonic() >= self._publish_at:
            self._look_after_actors()
            self._heard_at = time.monotonic()

    # -- ActorPool

    def _look_after_actors(self) -> None:
        """Counts what has come, tells actors the newest weights, and replaces those that died.

        Raises:
          _InterruptedWait: Nobody waits any more.
          ReplayError: Nothing has come for a long time.
          WorkerError: ActorPool die one after another.
        """
        if self._interrupted():
            raise _InterruptedWait
        before = self._env_steps
        self._publish()
        if self._env_steps > before:
            self._heard_at = time.monotonic()
        elif time.monotonic() > self._heard_at + _STALLED_SECONDS:
            address = self._replay.server.address
            raise ReplayError(
                f"no transition has come to {address} for {_STALLED_SECONDS:.0f} s: no actor is "
                "connected, or their environments hang; start actors by `dqnkit actor --connect "
                f"{address}`"
            )
        if self._actors is not None:
            self._actors.replace_dead(progressed=self._env_steps > before)

    def _take_leave(self) -> None:
        """Tells actors that are elsewhere."""
        if self._iteration >= self._config.training.num_iterations:
            self._publish(is_over=True)
        elif self._config.replay.address is not None:
            self._publisher.withdraw()

    def _expect_no_learner(self) -> None:
        """Looks whether another publishes: their actors and their transitions would be mixed.

        Raises:
          ConfigError: One does.
        """
        if self._config.replay.address is None:
            return

        def published() -> int:
            return int(self._replay.server.info(LEARNER).rate_limiter_info.insert_stats.completed)

        before = published()
        time.sleep(10 * _PUBLISH_SECONDS)
        if published() > before:
            address = self._replay.server.address
            raise ConfigError(
                f"replay.address={address}: another learner trains with the server there: wait for "
                "it, or start a server for this run"
            )

    def _publish(self, *, is_over: bool = False) -> None:
        self._publish_at = time.monotonic() + _PUBLISH_SECONDS
        self._count_steps()
        self._publisher.publish(
            self.policy_weights(), self._env_steps, self._replay.highest, is_over=is_over
        )

    def _count_steps(self) -> None:
        inserted = self._replay.num_inserted
        if inserted < self._inserted:  # the server was started anew, and counts from another number
            self._before += self._inserted - inserted
        self._inserted = inserted
        steps = self._before + inserted
        self._window.steps += steps - self._env_steps
        exploration = self._exploration(self._env_steps)
        if self._env_steps < self._config.training.initial_collect_steps:
            exploration = 1.0
        self._window.exploration += exploration * (steps - self._env_steps)
        self._env_steps = steps

    def _close_window(self) -> IntervalMetrics:
        self._count_steps()
        ended = self._publisher.episodes()
        self._window.count([EndedEpisode(*each) for each in ended])
        metrics = self._window.metrics(self._iteration, self._env_steps)
        self._window = HostInterval()
        return metrics
