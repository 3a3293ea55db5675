"""Connections to a Reverb server: timeouts, retries and errors."""

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

TIMEOUT_SECONDS = 60.0
"""Time without an answer after which a server is given up. A restart of the server takes less."""
_FIRST_TIMEOUT_SECONDS = 10.0
"""Timeout of the first call: an address that has never answered is more often wrong than down."""
POLL_SECONDS = 1.0
"""Interval at which a call that waits runs its callback."""
_CONNECTION_ERRORS = (RuntimeError, reverb.ReverbError, tf.errors.OpError)
"""Exceptions that Reverb raises when a connection breaks."""

OnWait = Callable[[], None]
"""Callback that runs every `POLL_SECONDS` while a call waits; it raises an exception to give up."""
Result = TypeVar("Result")


class ServerConnection:
    """A connection to a server, in this process or elsewhere.

    Reverb either blocks until a server that is gone comes back, and then handles no signals, or
    raises an exception at once. A call to a server elsewhere therefore runs in a thread of the
    connection and is repeated until the timeout. A thread that hangs is abandoned. Only one thread
    may call a connection at a time.
    """

    def __init__(
        self, address: str, *, in_process: bool = False, timeout: float | None = None
    ) -> None:
        """Prepare the connection, which the first call opens.

        Args:
          address: Address of the server, `HOST:PORT`.
          in_process: True if the server runs in this process: calls are made directly.
          timeout: Seconds without an answer before a call fails; None for `TIMEOUT_SECONDS`.
        """
        self.address = address
        self.client = reverb.Client(address)
        self._timeout = TIMEOUT_SECONDS if timeout is None else timeout
        self._calls: queue.SimpleQueue[_Call[Any] | None] | None = None
        if not in_process:
            self._calls = _start_thread()

    def call(
        self,
        function: Callable[[], Result],
        on_wait: OnWait | None = None,
        *,
        retry: bool = True,
    ) -> Result:
        """Return the result of a function that calls the server.

        Args:
          function: The function, without arguments.
          on_wait: Callback while the call waits; None raises ReplayError after the timeout.
          retry: True to repeat the call when the connection breaks; False if the function must
            not run twice.

        Raises:
          ReplayError: If the server does not answer.
        """
        with translate_errors(self.address):
            if self._calls is None:
                return function()
            deadline = time.monotonic() + self._timeout
            while True:
                try:
                    return self._run_in_thread(_Call(function), on_wait)
                except tf.errors.OutOfRangeError:
                    raise
                except _CONNECTION_ERRORS:
                    if not retry or time.monotonic() > deadline:
                        raise
                    time.sleep(POLL_SECONDS / 2)

    def _run_in_thread(self, call: _Call[Result], on_wait: OnWait | None) -> Result:
        assert self._calls is not None
        self._calls.put(call)
        try:
            return call.wait(on_wait or _Timeout(self.address, self._timeout))
        except BaseException:
            if not call.is_done:  # its thread may hang for ever: abandon it and start another
                self._calls.put(None)
                self._calls = _start_thread()
            raise

    @property
    def has_thread(self) -> bool:
        """True if a call that hangs can be given up."""
        return self._calls is not None

    def info(self, table: str = REPLAY) -> Any:
        """Return Reverb's `TableInfo` of a table."""
        return self.call(lambda: self.client.server_info()[table])

    def close(self) -> None:
        """End the thread of the connection."""
        if self._calls is not None:
            self._calls.put(None)


class _Timeout:
    """An `OnWait` that raises ReplayError after some seconds."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._deadline = time.monotonic() + seconds

    def __call__(self) -> None:
        if time.monotonic() > self._deadline:
            raise ReplayError(_no_answer(self._address, f"no response in {self._seconds:.0f} s"))


class _Call(Generic[Result]):
    """A function that another thread runs."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._done = threading.Event()
        self._result: list[Result] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the function, in the other thread."""
        try:
            self._result.append(self._function())
        except BaseException as error:
            self._error = error
        self._done.set()

    @property
    def is_done(self) -> bool:
        """True once the function has returned or raised."""
        return self._done.is_set()

    def wait(self, on_wait: OnWait) -> Result:
        """Return the result, or raise the exception of the function or of `on_wait`."""
        while not self._done.wait(POLL_SECONDS):  # a longer wait would delay signal handlers
            on_wait()
        if self._error is not None:
            raise self._error
        return self._result[0]


def _start_thread() -> queue.SimpleQueue[_Call[Any] | None]:
    """Start a thread that runs the calls of the returned queue, until None."""
    calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_run_calls, args=(calls,), daemon=True).start()
    return calls


def _run_calls(calls: queue.SimpleQueue[_Call[Any] | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()


@contextlib.contextmanager
def translate_errors(address: str) -> Iterator[None]:
    """Raise connection errors of Reverb as ReplayError.

    OutOfRangeError passes through: it reports the timeout of a rate limiter, not a failure.

    Args:
      address: Address of the server, for the message.

    Raises:
      ReplayError: If the connection breaks.
    """
    try:
        yield
    except tf.errors.OutOfRangeError:
        raise
    except _CONNECTION_ERRORS as error:
        raise ReplayError(_no_answer(address, one_line(error))) from error


def _no_answer(address: str, reason: str) -> str:
    return (
        f"the replay server at {address} does not answer: {reason}. Start it with `dqnkit "
        "replay-server` and the same experiment, then continue"
    )


def connect(
    address: str,
    config: ReplayConfig,
    transition_spec: TransitionSpec,
    limits: RateLimits | None = None,
) -> ServerConnection:
    """Connect to a server, and check that its replay table fits the configuration.

    Args:
      address: Address of the server, `HOST:PORT`.
      config: Configuration of the replay.
      transition_spec: Layout of the run's transitions.
      limits: Rate limits of the run; None for a client that does not sample.

    Raises:
      ConfigError: If the server has no replay table, or one of another experiment.
      ReplayError: If the server does not answer.
    """
    first = ServerConnection(address, timeout=_FIRST_TIMEOUT_SECONDS)
    try:
        info = first.call(first.client.server_info)
    finally:
        first.close()
    if REPLAY not in info:
        raise ConfigError(
            f"replay.address={address}: the server there has no table {REPLAY!r}: it was not "
            "started by `dqnkit replay-server`"
        )
    if mismatch := table_mismatch(info[REPLAY], config, transition_spec, limits):
        raise ConfigError(
            f"replay.address={address}: the server there was started for another experiment: it "
            f"has {mismatch}. Start a server for this experiment with `dqnkit replay-server`"
        )
    return ServerConnection(address)


def table_mismatch(
    info: Any,
    config: ReplayConfig,
    transition_spec: TransitionSpec,
    limits: RateLimits | None = None,
) -> str:
    """Describe the differences between a table and the table that a run needs.

    Args:
      info: Reverb's `TableInfo` of the table.
      config: Configuration of the replay.
      transition_spec: Layout of the run's transitions.
      limits: Rate limits of the run; None for a client that does not sample.

    Returns:
      The differences, for a message; "" if there are none.
    """
    actual, expected = _actual_table(info), _expected_table(config, transition_spec)
    if limits is not None:
        # Reverb reports a ratio of 1 for a limiter that allows any ratio.
        expected["samples_per_insert"] = limits.samples_per_insert or 1.0
        expected["min_size"] = limits.min_size
    names = sorted(name for name in expected if actual[name] != expected[name])
    return "; ".join(f"{name} {actual[name]}, not {expected[name]}" for name in names)


def _actual_table(info: Any) -> dict[str, Any]:
    prioritized = info.sampler_options.HasField("prioritized")
    return {
        "transitions": info.max_size,
        "samples_per_insert": info.rate_limiter_info.samples_per_insert,
        "min_size": info.rate_limiter_info.min_size_to_sample,
        "alpha": info.sampler_options.prioritized.priority_exponent if prioritized else None,
        "signature": _shapes_and_dtypes(info.signature),
    }


def _expected_table(config: ReplayConfig, transition_spec: TransitionSpec) -> dict[str, Any]:
    return {
        "transitions": config.replay_buffer_max_length,
        "alpha": required(config.alpha) if config.is_prioritized else None,
        "signature": _shapes_and_dtypes(transition_spec.signature()),
    }


def _shapes_and_dtypes(signature: Any) -> dict[str, str]:
    return {k: f"{v.dtype.name}{v.shape.as_list()}" for k, v in (signature or {}).items()}
