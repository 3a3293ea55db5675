"""Reaching a Reverb server, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from dqnkit._system.text import one_line
from dqnkit.config.fields import required
from dqnkit.config.sections import ReplayConfig
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb.library import reverb, tf
from dqnkit.reverb.tables import REPLAY, RateLimits, TransitionSpec

PATIENCE_SECONDS = 60.0
"""How long a server may be away, as while it is started anew."""
_FIRST_SECONDS = 10.0
"""Where nobody has answered yet, an address is wrong more often than a server is away."""
_LOOK_SECONDS = 1.0
_BROKEN = (RuntimeError, reverb.ReverbError, tf.errors.OpError)
"""What Reverb raises when a connection breaks."""
Answer = TypeVar("Answer")


class ServerConnection:
    """A server, called from this thread where it is in this process, else from one of its own.

    Reverb waits for a server that is gone until it is back, deaf to signals, or says at once that
    a connection broke. So a call to a server that runs elsewhere is tried again for a while, and
    then given up, with its thread if that hangs. One thread calls at a time.
    """

    def __init__(
        self, address: str, *, is_ours: bool = False, patience: float | None = None
    ) -> None:
        """Connects with the first call.

        Args:
          address: HOST:PORT.
          is_ours: Whether the server is in this process, and nothing is waited for.
          patience: Seconds without an answer; None takes `PATIENCE_SECONDS`.
        """
        self.address = address
        self.client = reverb.Client(address)
        self._patience = PATIENCE_SECONDS if patience is None else patience
        self._calls: queue.SimpleQueue[_Call[Any] | None] | None = None
        if not is_ours:
            self._calls = _new_thread()

    def call(
        self,
        function: Callable[[], Answer],
        wait: Callable[[], None] | None = None,
        *,
        again: bool = True,
    ) -> Answer:
        """What a function gives that calls the server.

        Args:
          function: It.
          wait: Is called each second without an answer, and raises if there is no hope; by default
            when the patience is over.
          again: Try again when the connection breaks. False where the function must not be called
            twice.

        Raises:
          ReplayError: The server does not answer.
        """
        with explained(self.address):
            if self._calls is None:
                return function()
            until = time.monotonic() + self._patience
            while True:
                try:
                    return self._asked(_Call(function), wait)
                except tf.errors.OutOfRangeError:
                    raise
                except _BROKEN:
                    if not again or time.monotonic() > until:
                        raise
                    time.sleep(_LOOK_SECONDS / 2)

    def _asked(self, call: _Call[Answer], wait: Callable[[], None] | None) -> Answer:
        assert self._calls is not None
        self._calls.put(call)
        try:
            return call.answer(wait or _Patience(self.address, self._patience))
        except BaseException:
            if not call.has_ended:  # its thread may hang for ever, and is left to itself
                self._calls.put(None)
                self._calls = _new_thread()
            raise

    @property
    def has_thread(self) -> bool:
        """Whether a call that hangs can be given up."""
        return self._calls is not None

    def info(self, table: str = REPLAY) -> Any:
        """Of a table."""
        return self.call(lambda: self.client.server_info()[table])

    def close(self) -> None:
        """Ends the thread."""
        if self._calls is not None:
            self._calls.put(None)


class _Patience:
    """Gives up a server that says nothing."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._until = time.monotonic() + seconds

    def __call__(self) -> None:
        if time.monotonic() > self._until:
            raise ReplayError(_silent(self._address, f"nothing came for {self._seconds:.0f} s"))


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

    @property
    def has_ended(self) -> bool:
        """Whether it has, with an answer or without."""
        return self._done.is_set()

    def answer(self, wait: Callable[[], None]) -> Answer:
        """In the thread that called."""
        while not self._done.wait(_LOOK_SECONDS):  # in pieces, between which a signal is heard
            wait()
        if self._error is not None:
            raise self._error
        return self._answer[0]


def _new_thread() -> queue.SimpleQueue[_Call[Any] | None]:
    calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_serve, args=(calls,), daemon=True).start()
    return calls


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
    except _BROKEN as error:
        raise ReplayError(_silent(address, one_line(error))) from error


def _silent(address: str, why: str) -> str:
    return (
        f"the replay server at {address} does not answer: {why}. Start it by `dqnkit "
        "replay-server`, with the same experiment, and go on"
    )


def connect(
    address: str, config: ReplayConfig, recipe: TransitionSpec, limits: RateLimits | None = None
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
    first = ServerConnection(address, patience=_FIRST_SECONDS)
    try:
        info = first.call(first.client.server_info)
    finally:
        first.close()
    if REPLAY not in info:
        raise ConfigError(
            f"replay.address={address}: the server there has no table {REPLAY!r}: it is not one "
            "of `dqnkit replay-server`"
        )
    if difference := differs(info[REPLAY], config, recipe, limits):
        raise ConfigError(
            f"replay.address={address}: the server there was started for another experiment: it "
            f"has {difference}. Start one by `dqnkit replay-server` with this experiment"
        )
    return ServerConnection(address)


def differs(
    info: Any, config: ReplayConfig, recipe: TransitionSpec, limits: RateLimits | None = None
) -> str:
    """What of a table is not as a run needs it; nothing if all is. See `connect`."""
    there, wanted = _described(info), _wanted(config, recipe)
    if limits is not None:
        # A limiter that lets everything through has a ratio too, of 1.
        wanted["samples_per_insert"] = limits.samples_per_insert or 1.0
        wanted["min_size"] = limits.min_size
    names = sorted(name for name in wanted if there[name] != wanted[name])
    return "; ".join(f"{name} {there[name]}, not {wanted[name]}" for name in names)


def _described(info: Any) -> dict[str, Any]:
    prioritized = info.sampler_options.HasField("prioritized")
    return {
        "transitions": info.max_size,
        "samples_per_insert": info.rate_limiter_info.samples_per_insert,
        "min_size": info.rate_limiter_info.min_size_to_sample,
        "alpha": info.sampler_options.prioritized.priority_exponent if prioritized else None,
        "signature": _plain(info.signature),
    }


def _wanted(config: ReplayConfig, recipe: TransitionSpec) -> dict[str, Any]:
    return {
        "transitions": config.replay_buffer_max_length,
        "alpha": required(config.alpha) if config.is_prioritized else None,
        "signature": _plain(recipe.signature()),
    }


def _plain(signature: Any) -> dict[str, str]:
    """Shapes and types, without names."""
    return {k: f"{v.dtype.name}{v.shape.as_list()}" for k, v in (signature or {}).items()}
