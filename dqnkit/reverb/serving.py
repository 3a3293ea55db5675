"""A replay server by itself, for runs whose learner and actors are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dqnkit._system.stderr import quiet_stderr
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb.connection import ServerConnection, differs
from dqnkit.reverb.server import ReplayServer
from dqnkit.reverb.tables import RateLimits, TransitionSpec, broadcast_tables, replay_table


class StandaloneServer:
    """A server, and what it has kept."""

    def __init__(
        self, server: ReplayServer, connection: ServerConnection, folder: Path | None
    ) -> None:
        self.port = server.port
        self._server = connection
        self._folder = folder

    @property
    def num_transitions(self) -> int:
        """In the table."""
        return int(self._server.info().current_size)

    def checkpoint(self) -> str | None:
        """Writes what it holds, if it has a folder; where to."""
        if self._folder is None or not self.num_transitions:
            return None
        with quiet_stderr():  # it tells so itself
            return str(self._server.call(self._server.client.checkpoint, again=False))


@contextmanager
def serving(
    config: Config, spec: EnvSpec, *, host: str, port: int | None, folder: Path | None
) -> Iterator[StandaloneServer]:
    """Serves the tables of an experiment.

    Args:
      config: Resolved.
      spec: Of its environment.
      host: See `ReplayServer`.
      port: To listen at; None takes a free one.
      folder: Of checkpoints, of which the newest is what the server begins with.

    Raises:
      ConfigError: The experiment's replay is not Reverb's, or the address cannot be had.
      ReplayError: It does not start, or the checkpoint is damaged.
    """
    if config.replay.kind != "reverb":
        raise ConfigError(
            f"the experiment {config.name} has replay.kind={config.replay.kind}, which needs no "
            "server: give one with reverb, or --set replay.kind=reverb"
        )
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--checkpoints {folder}: {error.strerror or error}") from error
        folder = folder.resolve()
    recipe = TransitionSpec(spec, config.agent.n_step, config.agent.gamma)
    limits = RateLimits.of(config)
    tables = [replay_table(config.replay, recipe, limits), *broadcast_tables()]
    with ExitStack() as served:
        # Learners have checkpoints written, for which Reverb makes a folder that it leaves behind.
        kept = folder or Path(served.enter_context(TemporaryDirectory(prefix="dqnkit-reverb-")))
        server = ReplayServer(tables, host=host, port=port, folder=kept)
        served.callback(server.close)
        connection = ServerConnection(server.address)
        served.callback(connection.close)
        if folder is not None and any(folder.glob("*/DONE")):
            info = connection.info()
            _check_checkpoint(folder, info, differs(info, config.replay, recipe, limits))
        yield StandaloneServer(server, connection, folder)


def _check_checkpoint(folder: Path, info: Any, difference: str) -> None:
    """Reverb takes a table as its checkpoint has it, and begins with none if that is damaged."""
    if not info.current_size:
        raise ReplayError(
            f"the checkpoint in {folder} is damaged: Reverb reads nothing from it; remove it to "
            "begin with an empty table"
        )
    if difference:
        raise ConfigError(
            f"--checkpoints {folder}: what it holds is another experiment's: it has {difference}. "
            "Give this experiment another folder"
        )
