"""Replay in a table of Reverb's, behind the interface that NumPy's have."""

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

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import Tensor, called_flat
from dqnkit.config.fields import required
from dqnkit.config.sections import ReplayConfig
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.replay.base import Sample
from dqnkit.replay.priorities import LEAST_ERROR
from dqnkit.reverb import connection
from dqnkit.reverb.connection import ServerConnection, connect
from dqnkit.reverb.library import reverb, tf
from dqnkit.reverb.server import ReplayServer
from dqnkit.reverb.tables import REPLAY, RateLimits, TransitionSpec, broadcast_tables, replay_table
from dqnkit.reverb.writer import TransitionWriter

_MOST_ENVS = 256
"""Each environment has a connection and a thread of its own."""
_LOOK_SECONDS = 1.0
_CHECKPOINT_SECONDS = 600.0
"""What a server may take for writing all that it holds."""
_PREFETCHED = 1
"""Samples that wait for the learner."""
_FILES = "files/"


class ReverbReplay:
    """A table, sampled uniformly or by priorities, with replacement (`Replay`).

    As `HostUniformReplay` and `HostPrioritizedReplay`, but for what is Reverb's own: it draws by random
    numbers that no seed decides; what it draws, it draws up to two samples ahead; and a return
    over several steps is there once its last step is (`TransitionWriter`).
    """

    def __init__(
        self,
        config: ReplayConfig,
        num_envs: int,
        recipe: TransitionSpec,
        limits: RateLimits | None = None,
    ) -> None:
        """Starts a server in this process, or connects to the one that is configured.

        Args:
          config: Of it.
          num_envs: Environments that add to it.
          recipe: Of what they add.
          limits: How fast it may be sampled; as one likes by default.

        Raises:
          ConfigError: It is larger than the machine's memory, or the server keeps other things.
          ReplayError: The server does not answer.
        """
        if num_envs > _MOST_ENVS:
            raise ConfigError(
                f"env.num_envs={num_envs}: replay.kind=reverb takes at most {_MOST_ENVS}, with a "
                "connection each; let several processes collect (training.num_actors)"
            )
        self._config = config
        self._recipe = recipe
        self.frames_per_sample = recipe.frames
        self._limits = limits or RateLimits()
        self._num_envs = num_envs
        self.highest = 1.0
        """The priority of new transitions: the greatest that any has had."""
        self.server: ServerConnection
        """That keeps them."""
        self._is_restored = False
        self._folder: Path | None = None
        self._served: ReplayServer | None = None
        self._streams: dict[int, _Stream] = {}
        self._writers: list[TransitionWriter] = []
        if config.address is None:
            self._serve()
        else:
            self.server = connect(config.address, config, recipe, self._limits)

    @property
    def num_transitions(self) -> int:
        """See `Replay`."""
        self._flush()
        return int(self.server.info().current_size)

    @property
    def num_inserted(self) -> int:
        """Transitions that have come to the server since it was started."""
        return int(self.server.info().rate_limiter_info.insert_stats.completed)

    def check(self) -> None:
        """See `Replay`."""
        if not self._is_restored and (kept := self.num_transitions):
            raise ConfigError(
                f"replay.address={self.server.address}: the server there holds {kept:,} "
                "transitions of another run: start one anew for this run, which begins with none, "
                "or go on with that one by `dqnkit train --resume RUN`"
            )

    def begin(self, envs: np.ndarray, frames: np.ndarray) -> None:
        """See `Replay`."""
        while len(self._writers) < self._num_envs:
            self._writers.append(TransitionWriter(self.server, self._recipe, self._patience))
        for env, frame in zip(envs, frames, strict=True):
            self._writers[env].begin(frame)

    def add(
        self,
        envs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        frames: np.ndarray,
    ) -> None:
        """See `Replay`."""
        for i, env in enumerate(envs):
            writer = self._writers[env]
            writer.priority = self.highest
            writer.add(
                int(actions[i]), float(rewards[i]), frames[i], terminated=bool(terminated[i])
            )

    def sample(
        self, rng: np.random.Generator, size: int, wait: Callable[[], None] | None = None
    ) -> Sample:
        """See `Replay`.

        Args:
          rng: Decides nothing.
          size: Transitions.
          wait: Is called each second in which the rate limiter lets nothing through, and raises if
            there is no hope; by default after a minute.

        Raises:
          ReplayError: The server does not answer, or gives nothing.
        """
        del rng
        if size not in self._streams:
            if wait is None and not self.num_transitions:
                raise ValueError("a replay without transitions has nothing to sample")
            # Where others add to the table, the limiter may take long, and is no failure.
            apart = self._config.address is not None or not self._num_envs
            server = ServerConnection(self.server.address) if apart else self.server
            self._streams[size] = _Stream(server, size, is_here=self._served is not None)
        return self._as_sample(self._streams[size].next(wait or _Patience(self.server)))

    def update_priorities(self, rows: np.ndarray, td_errors: np.ndarray) -> None:
        """See `Replay`."""
        if not self._config.is_prioritized:
            return
        priorities = np.abs(td_errors.astype(np.float64)) + LEAST_ERROR
        updates = dict(zip(rows.tolist(), priorities.tolist(), strict=True))
        client = self.server.client
        self.server.call(lambda: client.mutate_priorities(REPLAY, updates))
        self.highest = max(self.highest, float(priorities.max()))

    def state(self) -> dict[str, np.ndarray]:
        """See `Replay`: the files of a checkpoint of Reverb's.

        A server that runs elsewhere writes its own where it runs, and keeps it there.

        Raises:
          OSError: It cannot be written.
        """
        count = self.num_transitions
        try:
            written = Path(self._written())
        except (ReplayError, RuntimeError) as error:
            raise OSError(f"Reverb writes no checkpoint: {error}") from error
        state = {
            "count": np.array(count),
            "layout": _as_bytes(self._described()),
            "highest": np.array([self.highest]),
        }
        if self._folder is not None:
            for path in sorted(written.rglob("*")):
                if path.is_file():
                    name = f"{_FILES}{path.relative_to(self._folder)}"
                    state[name] = np.fromfile(path, np.uint8)
            shutil.rmtree(written)
        return state

    def _written(self) -> str:
        """Where a checkpoint is now."""
        client = self.server.client
        if self._served is not None:
            with quiet_stderr():  # it tells so itself
                return str(client.checkpoint())
        patient = ServerConnection(self.server.address, patience=_CHECKPOINT_SECONDS)
        try:
            return str(patient.call(client.checkpoint, again=False))
        finally:
            patient.close()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """See `Replay`.

        Raises:
          ConfigError: It is of a replay of another configuration, or of one that ran elsewhere.
        """
        given = bytes(state["layout"]).decode() if "layout" in state else "nothing of Reverb's"
        if given != self._described():
            raise ConfigError(
                f"the saved replay holds {given} and this one takes {self._described()}: restore "
                "it with the configuration it was saved by"
            )
        self.highest = float(state["highest"][0])
        self._is_restored = True
        self._hang_up()
        if self._folder is None:
            if int(state["count"]) and not self.num_transitions:
                raise ConfigError(
                    f"replay.address={self.server.address}: the server holds nothing of what the "
                    "run goes on from: start it with the folder of its checkpoints, `dqnkit "
                    "replay-server … --checkpoints FOLDER`"
                )
            return
        self._end_server()
        self._serve({k.removeprefix(_FILES): v for k, v in state.items() if k.startswith(_FILES)})

    def close(self) -> None:
        """See `Replay`."""
        self._hang_up()
        self._end_server()

    def _patience(self) -> _Patience:
        return _Patience(self.server)

    def _serve(self, files: dict[str, np.ndarray] | None = None) -> None:
        """Starts a server, with what the files of a checkpoint hold."""
        table = replay_table(self._config, self._recipe, self._limits)
        self._folder = Path(tempfile.mkdtemp(prefix="dqnkit-reverb-"))
        for name, content in (files or {}).items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(path)
        self._served = ReplayServer([table, *broadcast_tables()], folder=self._folder)
        self.server = ServerConnection(self._served.address, is_ours=True)
        for name in files or {}:
            (self._folder / name).unlink()

    def _end_server(self) -> None:
        self.server.close()
        if self._served is not None:
            self._served.close()
            self._served = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _hang_up(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def _flush(self) -> None:
        for writer in self._writers:
            writer.flush()

    def _described(self) -> str:
        """What a state must be of."""
        layout = {
            "frames": self._recipe.frames,
            "frame_shape": list(self._recipe.frame_shape),
            "dtype": self._recipe.dtype,
            "sampler": self._config.sampler,
            "transitions": self._config.replay_buffer_max_length,
            "at": self._config.address,
        }
        return json.dumps(layout)

    def _as_sample(self, drawn: Drawn) -> Sample:
        priorities = None
        if self._config.is_prioritized:
            priorities = drawn.priorities.numpy() ** required(self._config.alpha)
        return Sample(drawn.frames.numpy(), drawn.scalars.numpy(), drawn.keys.numpy(), priorities)


class Drawn(NamedTuple):
    """A sample as Reverb gives it, tensors [B, ...]."""

    frames: Tensor
    scalars: Tensor
    keys: Tensor
    priorities: Tensor


class _Patience:
    """Gives up on a table from which nothing comes, or that takes nothing."""

    def __init__(self, server: ServerConnection) -> None:
        self._server = server
        self._until = time.monotonic() + connection.PATIENCE_SECONDS

    def __call__(self) -> None:
        self._server.info()  # raises if nobody is there
        if time.monotonic() > self._until:
            raise ReplayError(
                f"Reverb at {self._server.address} gave or took no transition for "
                f"{connection.PATIENCE_SECONDS:.0f} s: its rate limiter waits for others that add "
                "to the table or draw from it"
            )


class _Stream:
    """Samples of one size, which Reverb draws two ahead."""

    def __init__(self, server: ServerConnection, size: int, *, is_here: bool) -> None:
        """Connects.

        Args:
          server: With a thread that nothing else uses, if it has one.
          size: Transitions of a sample.
          is_here: Whether the server is in this process.
        """
        self._server = server
        self._is_here = is_here
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
        dataset = server.call(
            lambda: reverb.TrajectoryDataset.from_table_signature(
                server.address,
                REPLAY,
                max_in_flight_samples_per_worker=size,
                num_workers_per_iterator=1,
                # Without a thread of its own it must come back to look around, and loses what was
                # drawn ahead.
                rate_limiter_timeout_ms=-1 if server.has_thread else int(1_000 * _LOOK_SECONDS),
                get_signature_timeout_secs=10,
            )
        )
        # Left to itself, tf.data draws more and more ahead, a hundred samples and beyond.
        options.autotune.enabled = False
        options.experimental_optimization.inject_prefetch = False
        dataset = dataset.batch(size, drop_remainder=True).prefetch(_PREFETCHED)
        self._dataset = dataset.with_options(options)
        self._fetch: Callable[[], Any] | None = None

    def next(self, wait: Callable[[], None]) -> Drawn:
        """The next sample.

        Args:
          wait: Is called each second in which the rate limiter lets nothing through.
        """
        while True:
            try:
                return Drawn(*self._server.call(self._fetched, wait))
            except tf.errors.OutOfRangeError:
                wait()

    def close(self) -> None:
        """Ends its thread, if it has one."""
        self._server.close()

    def _fetched(self) -> Any:
        try:
            if self._fetch is not None:
                return self._fetch()
            with quiet_stderr() if self._is_here else nullcontext():  # it tells how it connects
                self._fetch = self._connected()
                return self._fetch()
        except tf.errors.OpError:
            self._fetch = None  # it has ended; another begins
            raise

    def _connected(self) -> Callable[[], Any]:
        iterator = iter(self._dataset)

        def fetch() -> Drawn:
            drawn = iterator.get_next()
            data, info = drawn.data, drawn.info
            frames = [data[name] for name in ("frames", "next_frames") if name in data]
            return Drawn(tf.concat(frames, axis=1), data["scalars"], info.key, info.priority)

        # An iterator looks at shapes and types of all that it gives, which takes longer than to
        # give it.
        return called_flat(tf.function(fetch, autograph=False).get_concrete_function())


def _as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
