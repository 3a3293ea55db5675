"""Actors: processes that collect experience with the weights of a learner in another process."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection

import numpy as np

from dqnkit._system.tensorflow import compiled, tf
from dqnkit.agents import networks
from dqnkit.agents.exploration import HOST_POLICIES
from dqnkit.agents.schedules import exploration_schedule
from dqnkit.config import loading
from dqnkit.config.random_streams import Stream, actor_key, stream_key, stream_seeds
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import DqnkitError, ReplayError
from dqnkit.loops.episode_stats import EpisodeStats
from dqnkit.processes.launcher import detach_from_terminal
from dqnkit.reverb.broadcast import LearnerState, Subscriber
from dqnkit.reverb.connection import TIMEOUT_SECONDS, ServerConnection, connect
from dqnkit.reverb.tables import TransitionSpec
from dqnkit.reverb.writer import TransitionWriter

_REFRESH_SECONDS = 0.05
"""Interval at which an actor reads the learner's state."""
_RETRY_SECONDS = 1.0
_EXIT_SECONDS = 4.0
"""Time that an actor gets to close its environments when its learner ends."""
_MIN_TIMEOUT_SECONDS = 3.0


class _RunCompleteError(Exception):
    """The learner has done all its iterations. This exception ends a wait for the server."""


class _LearnerChangedError(Exception):
    """The server no longer has a learner, or has one with another configuration."""


class Actor:
    """Plays in the environments of a run and writes the transitions to its replay server."""

    def __init__(self, address: str, number: int, state: LearnerState) -> None:
        """Make environments and policy.

        Args:
          address: Address of the server, `HOST:PORT`.
          number: Number of the actor, unique within the run. Seeds depend on it.
          state: State of the learner.

        Raises:
          ConfigError: If the environment cannot be made on this machine.
          ReplayError: If the server does not answer.
        """
        self._config, self._spec = _resolve(state.config)
        config, agent, num_envs = self._config, self._config.agent, self._config.env.num_envs
        transition_spec = TransitionSpec(self._spec, agent.n_step, agent.gamma)
        self._network = networks.make_network(config, self._spec, stream_key(0, Stream.WEIGHTS))
        observations = tf.TensorSpec(
            [num_envs, *self._spec.observation.shape], self._spec.observation.dtype
        )
        self._compiled_q_values = compiled(self._network.q_values, observations)
        self._policy = HOST_POLICIES[config.exploration.policy]
        self._exploration = exploration_schedule(config.exploration)
        key = actor_key(config.training.seed, number, state.env_steps)
        self._rng = np.random.Generator(np.random.Philox(key))
        self._seeds = stream_seeds(key, 0, num_envs)
        self._episodes = EpisodeStats(num_envs)
        with ExitStack() as unfinished:
            self._server = connect(address, config.replay, transition_spec)
            unfinished.callback(self._server.close)
            self._environment = VectorEnvironment(config.env, self._spec, num_envs)
            unfinished.callback(self._environment.close)
            self._subscriber = Subscriber(self._server)
            unfinished.callback(self._subscriber.close)
            self._writers = []
            for _ in range(num_envs):
                writer = TransitionWriter(self._server, transition_spec, lambda: self._refresh)
                self._writers.append(writer)
                unfinished.callback(writer.close)
            self._resources = unfinished.pop_all()
        self._apply(state)

    @property
    def description(self) -> str:
        """Environment and experiment, for a message."""
        return f"acting in {self._config.env.id} for the experiment {self._config.name}"

    def run(self) -> None:
        """Collect until the run is complete.

        Raises:
          EnvironmentFailedError: If the environment raises an exception.
          ReplayError: If the server no longer answers.
          _LearnerChangedError: If the server has another learner or none.
        """
        self._environment.reset(self._seeds)
        self._begin_episodes(np.arange(self._config.env.num_envs))
        with contextlib.suppress(_RunCompleteError):
            while not self._state.is_over:
                self._step()
                if time.monotonic() >= self._refresh_at:
                    self._refresh()

    def close(self) -> None:
        """Close environments and connections."""
        self._resources.close()

    def _refresh(self) -> None:
        """Read the learner's state; also the `OnWait` callback of the writers.

        Raises:
          _RunCompleteError: If the run is complete.
          _LearnerChangedError: If the server has another learner or none.
          ReplayError: If the server does not answer.
        """
        state = self._subscriber.latest()
        if state is None or state.config != self._state.config:
            raise _LearnerChangedError
        self._apply(state)
        if state.is_over:
            raise _RunCompleteError

    def _apply(self, state: LearnerState) -> None:
        self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        self._state = state
        self._network.parameters.assign(state.weights)
        for writer in self._writers:
            writer.priority = state.priority

    def _step(self) -> None:
        config, num_envs = self._config, self._config.env.num_envs
        if self._state.env_steps < config.training.initial_collect_steps:
            actions = self._rng.integers(self._spec.num_actions, size=num_envs)
        else:
            exploration = self._exploration(self._state.env_steps)
            shape = (num_envs, self._spec.num_actions)
            actions = self._policy(self._q_values, exploration, self._rng, shape)
        step = self._environment.step(actions)
        for env in np.flatnonzero(step.stepped):
            self._writers[env].add(
                int(actions[env]),
                float(step.reward[env]),
                step.frame[env],
                terminated=bool(step.terminated[env]),
            )
        self._begin_episodes(np.flatnonzero(step.started))
        for episode in self._episodes.add(step):
            self._subscriber.report_episode(*episode)

    def _q_values(self) -> np.ndarray:
        observation = tf.constant(self._environment.observation)
        q_values: np.ndarray = self._compiled_q_values(observation).numpy()
        return q_values

    def _begin_episodes(self, envs: np.ndarray) -> None:
        for env in envs:
            self._writers[env].begin(self._environment.frame[env])


def act(
    address: str,
    number: int,
    *,
    patience: float,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Act for the learners at a server, one after another, until one completes its run.

    Args:
      address: Address of the server, `HOST:PORT`.
      number: Number of the actor, unique within the run.
      patience: Seconds to wait for a server that does not answer, or for a learner.
      report: Receives messages on the progress.

    Raises:
      ConfigError: If the environment of a run cannot be made on this machine.
      ReplayError: If server or learner are missing for longer than `patience`.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            state = _wait_for_learner(address, patience)
            with contextlib.closing(Actor(address, number, state)) as actor:
                report(actor.description)
                try:
                    actor.run()
                finally:
                    deadline = time.monotonic() + patience
        except _LearnerChangedError:
            report(f"the server at {address} was restarted, or has another run")
        except ReplayError as error:
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise
            report(f"{error}; trying again")
            time.sleep(_RETRY_SECONDS)
        else:
            report("the run is complete")
            return


def serve_actor(
    connection: Connection, output: str | None, memory_limit: int, *, address: str, number: int
) -> None:
    """Main function of an actor that a learner starts (`dqnkit.processes.launcher.Target`).

    The process ends when the connection closes. A `DqnkitError` that prevents it from acting is
    sent to the learner; for a ReplayError, the process exits with status 1.

    Args:
      connection: Connection to the learner.
      output: Path of the file that takes stdout and stderr; None leaves them alone.
      memory_limit: Ignored: an actor needs no more memory over time.
      address: Address of the server, `HOST:PORT`.
      number: Number of the actor, unique within the run.
    """
    del memory_limit
    if output is not None:
        detach_from_terminal(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_exit_with_learner, args=(connection,), daemon=True).start()
    try:
        act(address, number, patience=TIMEOUT_SECONDS)
    except ReplayError:
        sys.exit(1)  # the learner uses the same server and raises the error itself
    except KeyboardInterrupt:
        return
    except DqnkitError as error:
        connection.send(error)


def _exit_with_learner(connection: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    _thread.interrupt_main()  # the main thread closes the environments
    time.sleep(_EXIT_SECONDS)
    os._exit(0)


def _wait_for_learner(address: str, patience: float) -> LearnerState:
    with ExitStack() as resources:
        server = ServerConnection(address, timeout=max(patience, _MIN_TIMEOUT_SECONDS))
        resources.callback(server.close)
        subscriber = Subscriber(server)
        resources.callback(subscriber.close)
        state = subscriber.wait(max(patience, _RETRY_SECONDS))
    if state is None:
        raise ReplayError(
            f"no learner has come to the server at {address} within {patience:.0f} s: start one "
            f"with `dqnkit train`, training.num_actors=0 and replay.address={address}"
        )
    return state


def _resolve(text: str) -> tuple[Config, EnvSpec]:
    return resolve(loading.load_recorded(text, "the learner's configuration"))
