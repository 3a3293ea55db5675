"""Reaching a Reverb server, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from dqnkit.config import ReplayConfig
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.fields import known
from dqnkit.replay.reverb.library import reverb, tf
from dqnkit.replay.reverb.tables import REPLAY, Limits, Recipe

PATIENCE_SECONDS = 60.0
"""How long a server may be away, as while it is started anew."""
_ANSWER_SECONDS = 4
_TRIES = 3
_LOOK_SECONDS = 1.0
Answer = TypeVar("Answer")


class ServerConnection:
    """A server, called from this thread where it is in this process, else from one of its own.

    Reverb waits for a server that is gone until it is back, deaf to signals. So a call to a server
    that runs elsewhere is given up after a while, and its thread with it.
    """

    def __init__(
        self, address: str, *, is_ours: bool = False, patience: float = PATIENCE_SECONDS
    ) -> None:
        """Connects with the first call.

        Args:
          address: HOST:PORT.
          is_ours: Whether the server is in this process.
          patience: Seconds without an answer.
        """
        self.address = address
        self.client = reverb.Client(address)
        self._patience = patience
        self._calls: queue.SimpleQueue[_Call[Any] | None] | None = None
        if not is_ours:
            self._calls = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._calls,), daemon=True).start()

    def call(self, function: Callable[[], Answer]) -> Answer:
        """What a function gives that calls the server.

        Raises:
          ReplayError: The server does not answer.
        """
        with explained(self.address):
            if self._calls is None:
                return function()
            call = _Call(function)
            self._calls.put(call)
            return call.wait(self.address, self._patience)

    def info(self, table: str = REPLAY) -> Any:
        """Of a table."""
        return self.call(lambda: self.client.server_info()[table])

    def close(self) -> None:
        """Ends the thread."""
        if self._calls is not None:
            self._calls.put(None)


class _Call(Generic[Answer]):
    """A function that another thread runs."""

    def __init__(self, function: Callable[[], Answer]) -> None:
        self._function = function
        self._done = threading.Event()
        self._answer: list[Answer] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """In the other thread."""
        try:
            self._answer.append(self._function())
        except BaseException as error:
            self._error = error
        self._done.set()

    def wait(self, address: str, patience: float) -> Answer:
        """In the thread that called."""
        until = time.monotonic() + patience
        while not self._done.wait(_LOOK_SECONDS):  # in pieces, between which a signal is heard
            if time.monotonic() > until:
                raise ReplayError(_silent(address, f"nothing came for {patience:.0f} s"))
        if self._error is not None:
            raise self._error
        return self._answer[0]


def _serve(calls: queue.SimpleQueue[_Call[Any] | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns what Reverb raises when its server is gone into one message.

    Raises:
      ReplayError: It is.
    """
    try:
        yield
    except tf.errors.OutOfRangeError:
        raise  # the rate limiter's, which is no fault
    except (RuntimeError, reverb.ReverbError, tf.errors.OpError) as error:
        raise ReplayError(_silent(address, " ".join(str(error).split())[:300])) from error


def _silent(address: str, why: str) -> str:
    return (
        f"the replay server at {address} does not answer: {why}. Start it by `dqnkit "
        "replay-server`, with the same experiment, and go on"
    )


def connect(
    address: str, config: ReplayConfig, recipe: Recipe, limits: Limits | None = None
) -> ServerConnection:
    """A connection to a server that keeps what a run needs.

    Args:
      address: Of it.
      config: What the run needs.
      recipe: Of its transitions.
      limits: How fast it draws them; None for who draws nothing.

    Raises:
      ConfigError: It keeps something else.
      ReplayError: It does not answer.
    """
    connection = ServerConnection(address)
    info = _first_answer(connection)
    if REPLAY not in info:
        raise ConfigError(
            f"replay.address={address}: the server there has no table {REPLAY!r}: it is not one "
            "of `dqnkit replay-server`"
        )
    there, wanted = _described(info[REPLAY]), _wanted(config, recipe)
    if limits is None:
        del there["samples_per_insert"]
    else:
        # A limiter that lets everything through has a ratio too, of 1.
        wanted["samples_per_insert"] = limits.samples_per_insert or 1.0
    if there != wanted:
        differing = sorted(name for name in wanted if there[name] != wanted[name])
        parts = [f"{name} {there[name]}, not {wanted[name]}" for name in differing]
        raise ConfigError(
            f"replay.address={address}: the server there was started for another experiment: it "
            f"has {'; '.join(parts)}. Start one by `dqnkit replay-server` with this experiment"
        )
    return connection


def _first_answer(connection: ServerConnection) -> Any:
    """What the server says of its tables.

    A server that was started anew is met by connections to the one before it, which break.
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(ReplayError):
            return connection.call(lambda: connection.client.server_info(_ANSWER_SECONDS))
        time.sleep(_LOOK_SECONDS / 2)
    return connection.call(lambda: connection.client.server_info(_ANSWER_SECONDS))


def _described(info: Any) -> dict[str, Any]:
    prioritized = info.sampler_options.HasField("prioritized")
    return {
        "transitions": info.max_size,
        "samples_per_insert": info.rate_limiter_info.samples_per_insert,
        "alpha": info.sampler_options.prioritized.priority_exponent if prioritized else None,
        "signature": _plain(info.signature),
    }


def _wanted(config: ReplayConfig, recipe: Recipe) -> dict[str, Any]:
    return {
        "transitions": config.replay_buffer_max_length,
        "alpha": known(config.alpha) if config.is_prioritized else None,
        "signature": _plain(recipe.signature()),
    }


def _plain(signature: Any) -> dict[str, str]:
    """Shapes and types, without names."""
    return {k: f"{v.dtype.name}{v.shape.as_list()}" for k, v in (signature or {}).items()}
