"""Replay in a Reverb table, behind the interface of the host loop."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import Tensor, called_flat
from dqnkit.config.fields import required
from dqnkit.config.sections import Config, ReplayConfig
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.replay.base import HostReplay, Sample
from dqnkit.replay.priorities import LEAST_ERROR
from dqnkit.reverb import connection
from dqnkit.reverb.connection import OnWait, ServerConnection, connect
from dqnkit.reverb.library import reverb, tf
from dqnkit.reverb.server import ReplayServer
from dqnkit.reverb.tables import (
    REPLAY,
    RateLimits,
    TransitionSpec,
    make_broadcast_tables,
    make_replay_table,
)
from dqnkit.reverb.writer import TransitionWriter

_MAX_ENVS = 256
"""Maximum number of environments: each one has a connection and a thread."""
_CHECKPOINT_TIMEOUT_SECONDS = 600.0
_PREFETCHED_SAMPLES = 1
_FILES = "files/"
"""Prefix of the files of a Reverb checkpoint in a `state`."""


class ReverbReplay(HostReplay):
    """A Reverb table, sampled uniformly or by priorities, with replacement.

    It behaves as `HostUniformReplay` and `HostPrioritizedReplay`, with three differences. Sampling
    depends on no seed. Up to two samples are drawn ahead, with the priorities of that time. A
    transition can be sampled once its n-step return is complete (`TransitionWriter`).
    """

    def __init__(
        self,
        config: ReplayConfig,
        num_envs: int,
        transition_spec: TransitionSpec,
        limits: RateLimits | None = None,
    ) -> None:
        """Start a server in this process, or connect to `replay.address`.

        Args:
          config: Configuration of the replay.
          num_envs: Number of environments that add transitions through this object.
          transition_spec: Layout of the transitions.
          limits: Rate limits of the table; None for no limits.

        Raises:
          ConfigError: If the table does not fit into the machine's memory, or the server was
            started for another experiment.
          ReplayError: If the server does not answer.
        """
        if num_envs > _MAX_ENVS:
            raise ConfigError(
                f"env.num_envs={num_envs}: replay.kind=reverb allows at most {_MAX_ENVS}, since "
                "each environment has its own connection; use several actors "
                "(training.num_actors)"
            )
        self._config = config
        self._transition_spec = transition_spec
        self.frames_per_sample = transition_spec.frames
        self._limits = limits or RateLimits()
        self._num_envs = num_envs
        self.max_priority = 1.0
        """Priority of new transitions: the highest priority so far."""
        self.server: ServerConnection
        """Connection to the server that has the table."""
        self._is_restored = False
        self._folder: Path | None = None
        """Folder of the checkpoints of the server in this process."""
        self._local_server: ReplayServer | None = None
        self._streams: dict[int, _SampleStream] = {}
        self._writers: list[TransitionWriter] = []
        if config.address is None:
            self._start_server()
        else:
            self.server = connect(config.address, config, transition_spec, self._limits)

    @property
    @override
    def num_transitions(self) -> int:
        self._flush()
        return int(self.server.info().current_size)

    @property
    def num_inserted(self) -> int:
        """Number of transitions that the server has received since it was started."""
        return int(self.server.info().rate_limiter_info.insert_stats.completed)

    @override
    def check(self) -> None:
        if not self._is_restored and (count := self.num_transitions):
            raise ConfigError(
                f"replay.address={self.server.address}: the server there holds {count:,} "
                "transitions of another run: restart it without them for a new run, or resume the "
                "other run"
            )

    @override
    def begin(self, envs: np.ndarray, frames: np.ndarray) -> None:
        while len(self._writers) < self._num_envs:
            self._writers.append(
                TransitionWriter(self.server, self._transition_spec, self._make_timeout)
            )
        for env, frame in zip(envs, frames, strict=True):
            self._writers[env].begin(frame)

    @override
    def add(
        self,
        envs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        frames: np.ndarray,
    ) -> None:
        for i, env in enumerate(envs):
            writer = self._writers[env]
            writer.priority = self.max_priority
            writer.add(
                int(actions[i]), float(rewards[i]), frames[i], terminated=bool(terminated[i])
            )

    @override
    def sample(self, rng: np.random.Generator, size: int, on_wait: OnWait | None = None) -> Sample:
        """Draw `size` transitions with replacement.

        Args:
          rng: Ignored: Reverb draws with its own generator.
          size: Number of transitions.
          on_wait: Callback while the rate limiter blocks; None raises ReplayError after a minute.

        Raises:
          ReplayError: If the server does not answer, or the rate limiter blocks for too long.
          ValueError: If there are no transitions and no `on_wait`.
        """
        del rng
        if size not in self._streams:
            if on_wait is None and not self.num_transitions:
                raise ValueError("a replay without transitions has nothing to sample")
            self._streams[size] = self._open_stream(size)
        return self._convert(self._streams[size].next(on_wait or self._make_timeout()))

    def _open_stream(self, size: int) -> _SampleStream:
        # Where other processes add to the table, the limiter may block for long: the stream then
        # needs a connection with a thread of its own.
        is_shared = self._config.address is not None or not self._num_envs
        server = ServerConnection(self.server.address) if is_shared else self.server
        return _SampleStream(server, size, in_process=self._local_server is not None)

    @override
    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        if not self._config.is_prioritized:
            return
        priorities = np.abs(td_errors.astype(np.float64)) + LEAST_ERROR
        updates = dict(zip(rows.tolist(), priorities.tolist(), strict=True))
        client = self.server.client
        self.server.call(lambda: client.mutate_priorities(REPLAY, updates))
        self.max_priority = max(self.max_priority, float(priorities.max()))

    @override
    def state(self) -> dict[str, np.ndarray]:
        """Return the files of a Reverb checkpoint.

        A server elsewhere writes its checkpoint on its own machine, and the files stay there.

        Raises:
          OSError: If the checkpoint cannot be written.
          ReplayError: If the server does not answer.
        """
        count = self.num_transitions
        try:
            written = Path(self._write_checkpoint())
        except (ReplayError, RuntimeError) as error:
            raise OSError(f"Reverb writes no checkpoint: {error}") from error
        state = {
            "count": np.array(count),
            "layout": np.frombuffer(self._layout().encode(), np.uint8),
            "highest": np.array([self.max_priority]),
        }
        if self._folder is not None:
            for path in sorted(written.rglob("*")):
                if path.is_file():
                    name = f"{_FILES}{path.relative_to(self._folder)}"
                    state[name] = np.fromfile(path, np.uint8)
            shutil.rmtree(written)
        return state

    def _write_checkpoint(self) -> str:
        """Let the server write a checkpoint, and return its path on the server's machine."""
        client = self.server.client
        if self._local_server is not None:
            with quiet_stderr():  # Reverb logs the checkpoint
                return str(client.checkpoint())
        server = ServerConnection(self.server.address, timeout=_CHECKPOINT_TIMEOUT_SECONDS)
        try:
            return str(server.call(client.checkpoint, retry=False))
        finally:
            server.close()

    @override
    def restore(self, state: dict[str, np.ndarray]) -> None:
        layout = bytes(state["layout"]).decode() if "layout" in state else "no Reverb checkpoint"
        if layout != self._layout():
            raise ConfigError(
                f"the saved replay holds {layout} and this one takes {self._layout()}: restore "
                "it with the configuration with which it was saved"
            )
        self.max_priority = float(state["highest"][0])
        self._is_restored = True
        self._close_clients()
        if self._folder is None:
            if int(state["count"]) and not self.num_transitions:
                raise ConfigError(
                    f"replay.address={self.server.address}: the server there has none of the "
                    "transitions that the run collected before its checkpoint: restart `dqnkit "
                    "replay-server` with its folder of checkpoints"
                )
            return
        self._stop_server()
        self._start_server(
            {k.removeprefix(_FILES): v for k, v in state.items() if k.startswith(_FILES)}
        )

    @override
    def close(self) -> None:
        self._close_clients()
        self._stop_server()

    def _make_timeout(self) -> OnWait:
        return _LimiterTimeout(self.server)

    def _start_server(self, files: dict[str, np.ndarray] | None = None) -> None:
        """Start a server in this process.

        Args:
          files: Contents of the files of a checkpoint to load, by relative path.
        """
        table = make_replay_table(self._config, self._transition_spec, self._limits)
        self._folder = Path(tempfile.mkdtemp(prefix="dqnkit-reverb-"))
        for name, content in (files or {}).items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(path)
        self._local_server = ReplayServer(
            [table, *make_broadcast_tables()], checkpoints=self._folder
        )
        self.server = ServerConnection(self._local_server.address, in_process=True)
        for name in files or {}:
            (self._folder / name).unlink()

    def _stop_server(self) -> None:
        self.server.close()
        if self._local_server is not None:
            self._local_server.close()
            self._local_server = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close_clients(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def _flush(self) -> None:
        for writer in self._writers:
            writer.flush()

    def _layout(self) -> str:
        """Return the properties that a `state` must share with this replay, as JSON."""
        layout = {
            "frames": self._transition_spec.frames,
            "frame_shape": list(self._transition_spec.frame_shape),
            "dtype": self._transition_spec.dtype,
            "sampler": self._config.sampler,
            "transitions": self._config.replay_buffer_max_length,
            "at": self._config.address,
        }
        return json.dumps(layout)

    def _convert(self, sample: _ReverbSample) -> Sample:
        priorities = None
        if self._config.is_prioritized:
            priorities = sample.priorities.numpy() ** required(self._config.alpha)
        return Sample(
            sample.frames.numpy(), sample.scalars.numpy(), sample.keys.numpy(), priorities
        )


class _ReverbSample(NamedTuple):
    """A sample as Reverb returns it, tensors [B, ...]."""

    frames: Tensor
    scalars: Tensor
    keys: Tensor
    """Keys of the items in the table, uint64 [B]."""
    priorities: Tensor
    """Priorities, before the exponent alpha."""


class _LimiterTimeout:
    """An `OnWait` that gives up a rate limiter that blocks for too long."""

    def __init__(self, server: ServerConnection) -> None:
        self._server = server
        self._deadline = time.monotonic() + connection.TIMEOUT_SECONDS

    def __call__(self) -> None:
        self._server.info()  # raises ReplayError if the server does not answer
        if time.monotonic() > self._deadline:
            raise ReplayError(
                f"Reverb at {self._server.address} has sent or accepted no transition for "
                f"{connection.TIMEOUT_SECONDS:.0f} s: its rate limiter waits for other processes "
                "to add to the table or to sample from it"
            )


class _SampleStream:
    """A stream of samples of one size, of which Reverb draws two ahead."""

    def __init__(self, server: ServerConnection, size: int, *, in_process: bool) -> None:
        """Make the dataset.

        Args:
          server: Connection whose thread, if it has one, makes no other calls.
          size: Number of transitions per sample.
          in_process: True if the server runs in this process.
        """
        self._server = server
        self._in_process = in_process
        # Without a thread, the call must return now and then to run the callback of the wait. What
        # the dataset has prefetched is lost then.
        timeout_ms = -1 if server.has_thread else int(1_000 * connection.POLL_SECONDS)
        dataset = server.call(
            lambda: reverb.TrajectoryDataset.from_table_signature(
                server.address,
                REPLAY,
                max_in_flight_samples_per_worker=size,
                num_workers_per_iterator=1,
                rate_limiter_timeout_ms=timeout_ms,
                get_signature_timeout_secs=10,
            )
        )
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
        # By default, tf.data increases its prefetching without bound, to 100 samples and more.
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        dataset = dataset.batch(size, drop_remainder=True).prefetch(_PREFETCHED_SAMPLES)
        self._dataset = dataset.with_options(options)
        self._next_sample: Callable[[], Any] | None = None

    def next(self, on_wait: OnWait) -> _ReverbSample:
        """Return the next sample.

        Args:
          on_wait: Callback while the rate limiter blocks.
        """
        while True:
            try:
                return _ReverbSample(*self._server.call(self._read, on_wait))
            except tf.errors.OutOfRangeError:
                on_wait()

    def close(self) -> None:
        """End the thread of the connection, if it has one."""
        self._server.close()

    def _read(self) -> Any:
        try:
            if self._next_sample is not None:
                return self._next_sample()
            # Reverb logs the connection.
            with quiet_stderr() if self._in_process else nullcontext():
                self._next_sample = self._make_next_sample()
                return self._next_sample()
        except tf.errors.OpError:
            self._next_sample = None  # the iterator has ended: the next call makes another
            raise

    def _make_next_sample(self) -> Callable[[], Any]:
        iterator = iter(self._dataset)

        def next_sample() -> _ReverbSample:
            sample = iterator.get_next()
            data, info = sample.data, sample.info
            frames = [data[name] for name in ("frames", "next_frames") if name in data]
            return _ReverbSample(
                tf.concat(frames, axis=1), data["scalars"], info.key, info.priority
            )

        # Iterating in Python would check shapes and dtypes of each element, which takes longer than
        # reading it.
        return called_flat(tf.function(next_sample, autograph=False).get_concrete_function())


def make_reverb_replay(config: Config, spec: EnvSpec) -> ReverbReplay:
    """Make the replay of a process that collects and learns in turn.

    Args:
      config: The resolved configuration.
      spec: Specification of its environment.

    Raises:
      ConfigError: If it does not fit into memory, or its server keeps other transitions.
      ReplayError: If its server does not answer.
    """
    replay, agent = config.replay, config.agent
    transitions = TransitionSpec(spec, agent.n_step, agent.gamma)
    # Such a process keeps to its ratio by itself; a server needs limits for the others.
    is_limited = replay.samples_per_insert or replay.address
    limits = RateLimits.from_config(config) if is_limited else RateLimits()
    return ReverbReplay(replay, config.env.num_envs, transitions, limits)
