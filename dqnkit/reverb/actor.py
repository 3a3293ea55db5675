"""An actor: collects with the weights of a learner that runs elsewhere, through Reverb."""

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
from dqnkit.config.sections import Config
from dqnkit.config.seeds import Stream, actor_key, stream_key, stream_seeds
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import DqnkitError, ReplayError
from dqnkit.loops.episodes import EpisodeStats
from dqnkit.processes.launcher import detach_from_terminal
from dqnkit.reverb.broadcast import Broadcast, Subscriber
from dqnkit.reverb.connection import PATIENCE_SECONDS, ServerConnection, connect
from dqnkit.reverb.tables import TransitionSpec
from dqnkit.reverb.writer import TransitionWriter

_REFRESH_SECONDS = 0.05
"""How old the weights that an actor plays with may be, beside what publishing them takes."""
_RETRY_SECONDS = 1.0
_LEAVE_SECONDS = 4.0
_ANSWER_SECONDS = 3.0


class _RunIsOver(Exception):  # noqa: N818 - nothing is wrong
    """The learner has done all its iterations."""


class _AnotherRun(Exception):  # noqa: N818 - nothing is wrong
    """The server has another learner, or none any more."""


class Actor:
    """Plays and writes what it sees, until its learner says that the run is over."""

    def __init__(self, address: str, number: int, said: Broadcast) -> None:
        """Makes environments and the policy.

        Args:
          address: Of the server.
          number: Unlike that of any other actor of the run: decides its seeds.
          said: What the learner told.

        Raises:
          ConfigError: The environment cannot be made here.
          ReplayError: The server does not answer.
        """
        self._config, self._spec = _resolved(said.config)
        config, agent, num_envs = self._config, self._config.agent, self._config.env.num_envs
        recipe = TransitionSpec(self._spec, agent.n_step, agent.gamma)
        self._network = networks.make_network(config, self._spec, stream_key(0, Stream.WEIGHTS))
        observations = [num_envs, *self._spec.observation.shape]
        acted_on = tf.TensorSpec(observations, self._spec.observation.dtype)
        self._act = compiled(self._network.q_values, acted_on)
        self._policy = HOST_POLICIES[config.exploration.policy]
        self._exploration = exploration_schedule(config.exploration)
        key = actor_key(config.training.seed, number, said.env_steps)
        self._rng = np.random.Generator(np.random.Philox(key))
        self._seeds = stream_seeds(key, 0, num_envs)
        self._episodes = EpisodeStats(num_envs)
        with ExitStack() as unfinished:
            self._server = connect(address, config.replay, recipe)
            unfinished.callback(self._server.close)
            self._environment = VectorEnvironment(config.env, self._spec, num_envs)
            unfinished.callback(self._environment.close)
            self._listener = Subscriber(self._server)
            unfinished.callback(self._listener.close)
            self._writers = []
            for _ in range(num_envs):
                self._writers.append(TransitionWriter(self._server, recipe, lambda: self._look))
                unfinished.callback(self._writers[-1].close)
            self._resources = unfinished.pop_all()
        self._hear(said)

    @property
    def what(self) -> str:
        """What it does, in words."""
        return f"acting in {self._config.env.id} for the experiment {self._config.name}"

    def run(self) -> None:
        """Collects until the run is over.

        Raises:
          EnvironmentFailedError: The environment does.
          ReplayError: The server does not answer any more.
          _AnotherRun: It has another learner, or none.
        """
        self._environment.reset(self._seeds)
        self._begin(np.arange(self._config.env.num_envs))
        with contextlib.suppress(_RunIsOver):
            while not self._said.is_over:
                self._step()
                if time.monotonic() >= self._refresh_at:
                    self._look()

    def close(self) -> None:
        """Ends environments and connections."""
        self._resources.close()

    def _look(self) -> None:
        """Hears the learner; also each second in which the rate limiter takes nothing.

        Raises:
          _RunIsOver: It says so.
          _AnotherRun: It is not the one that it was.
          ReplayError: The server does not answer.
        """
        said = self._listener.latest()
        if said is None or said.config != self._said.config:
            raise _AnotherRun
        self._hear(said)
        if said.is_over:
            raise _RunIsOver

    def _hear(self, said: Broadcast) -> None:
        self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        self._said = said
        self._network.parameters.assign(said.weights)
        for writer in self._writers:
            writer.priority = said.priority

    def _step(self) -> None:
        config, num_envs = self._config, self._config.env.num_envs
        if self._said.env_steps < config.training.initial_collect_steps:
            actions = self._rng.integers(self._spec.num_actions, size=num_envs)
        else:
            exploration = self._exploration(self._said.env_steps)
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
        self._begin(np.flatnonzero(step.started))
        for ended in self._episodes.ended(step):
            self._listener.ended(*ended)

    def _q_values(self) -> np.ndarray:
        q_values: np.ndarray = self._act(tf.constant(self._environment.observation)).numpy()
        return q_values

    def _begin(self, envs: np.ndarray) -> None:
        for env in envs:
            self._writers[env].begin(self._environment.frame[env])


def act(
    address: str,
    number: int,
    *,
    patience: float,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Acts for whatever learner publishes at a server, until one of them says that it is done.

    Args:
      address: Of the server.
      number: See `Actor`.
      patience: Seconds without a server, or a learner at it, before it is given up.
      tell: Hears what happens.

    Raises:
      ConfigError: The environment of the run cannot be made here.
      ReplayError: Server or learner do not come, or not come back.
    """
    given_up_at = time.monotonic() + patience
    while True:
        try:
            said = _wait_for_learner(address, patience)
            with contextlib.closing(Actor(address, number, said)) as actor:
                tell(actor.what)
                try:
                    actor.run()
                finally:
                    given_up_at = time.monotonic() + patience
        except _AnotherRun:
            tell(f"the server at {address} has been started anew, or has another run")
        except ReplayError as error:
            if time.monotonic() + _RETRY_SECONDS > given_up_at:
                raise
            tell(f"{error}; trying again")
            time.sleep(_RETRY_SECONDS)
        else:
            tell("the run is complete")
            return


def serve_actor(
    connection: Connection, said: str | None, most_memory: int, *, address: str, number: int
) -> None:
    """An actor as a process of its learner's, which ends with it (`launchers.Target`).

    It sends a `DqnkitError` if it cannot go on.
    """
    del most_memory
    if said is not None:
        detach_from_terminal(said)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    try:
        act(address, number, patience=PATIENCE_SECONDS)
    except ReplayError:
        sys.exit(1)  # the learner knows
    except KeyboardInterrupt:
        return
    except DqnkitError as error:
        connection.send(error)


def _end_with(connection: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    _thread.interrupt_main()  # which closes the environments
    time.sleep(_LEAVE_SECONDS)
    os._exit(0)


def _wait_for_learner(address: str, patience: float) -> Broadcast:
    with ExitStack() as opened:
        server = ServerConnection(address, patience=max(patience, _ANSWER_SECONDS))
        opened.callback(server.close)
        listener = Subscriber(server)
        opened.callback(listener.close)
        said = listener.wait(max(patience, _RETRY_SECONDS))
    if said is None:
        raise ReplayError(
            f"no learner has come to the server at {address} for {patience:.0f} s: start one by "
            f"`dqnkit train … --actors 0 --set replay.address={address}`"
        )
    return said


def _resolved(text: str) -> tuple[Config, EnvSpec]:
    return resolve(loading.load_recorded(text, "the learner's configuration"))
