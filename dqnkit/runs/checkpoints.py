"""Checkpoints: everything that decides how a run continues, in files on disk.

A `Checkpoint` holds the loop's state as named leaves (`loop/replay/table`, `agent/online/...`) and
the state of the run around it (`run/iteration`, `run/evaluations/returns`, ...).
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from dqnkit._system.arrays import Arrays, load_arrays, save_arrays
from dqnkit._system.files import remove_partial_files
from dqnkit.errors import CheckpointError
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.tracking.names import Artifact
from dqnkit.tracking.tracker import Tracker

_FORMAT = 2
_LEAST_SECONDS = 10.0
"""Minimum time between two checkpoints if no interval is configured."""
_SHARE = 0.01
"""Share of a run's time that checkpoints may take if no interval is configured."""
_NAME = re.compile(r"iteration-(\d+)\.npz")


@dataclass(frozen=True)
class Clocks:
    """Times and counts of a run, over all processes that have trained it."""

    total_seconds: float = 0.0
    training_seconds: float = 0.0
    """Seconds in the training loop alone."""
    training_steps: int = 0
    """Environment steps in these seconds."""
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    checkpoint_megabytes: float = 0.0
    """Size of the last checkpoint before this one."""
    compile_seconds: float = 0.0

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of the training loop alone."""
        return self.training_steps / max(self.training_seconds, 1e-9)


_LATER_CLOCKS = ("checkpoint_megabytes", "compile_seconds")
"""Fields of `Clocks` that checkpoints of dqnkit 0.1 do not have."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a run between two chunks of training."""

    config: str
    """The configuration as YAML."""
    iteration: int
    loop: Arrays
    """State of the loop (`Loop.state`)."""
    evaluations: tuple[Evaluation, ...]
    """All evaluations so far, in order."""
    best: int
    """Index of the best evaluation; -1 before the first."""
    best_weights: np.ndarray
    """Weights of the policy that it evaluated, float32 [n]."""
    clocks: Clocks

    @property
    def is_finite(self) -> bool:
        """True if no weight of the agent is NaN or infinite."""
        agent = (value for name, value in self.loop.items() if name.startswith("agent/"))
        return all(bool(np.isfinite(value).all()) for value in agent)

    def save(self, path: Path) -> None:
        """Write the checkpoint to a file, completely or not at all.

        Raises:
          OSError: If it cannot be written; the file at `path` stays as it was.
        """
        own = {
            "format": np.array(_FORMAT),
            "config": np.frombuffer(self.config.encode(), np.uint8),
            "iteration": np.array(self.iteration),
            "best": np.array(self.best),
            "best_weights": self.best_weights,
            **{f"clocks/{name}": np.array(value) for name, value in vars(self.clocks).items()},
            **_evaluation_arrays(self.evaluations),
        }
        save_arrays(path, {**self.loop, **{f"run/{name}": value for name, value in own.items()}})

    @classmethod
    def load(cls, path: Path, source: str | None = None) -> Checkpoint:
        """Read a checkpoint, also one of format 1.

        Args:
          path: Path of the file.
          source: Name of the checkpoint in messages; its path by default.

        Raises:
          CheckpointError: If the file is missing, damaged or of an unknown format.
        """
        return cls._from_arrays(load_arrays(path), source or str(path))

    @classmethod
    def _from_arrays(cls, arrays: Arrays, source: str) -> Checkpoint:
        try:
            version = int(arrays["run/format"])
            if version == 1:
                arrays = _from_format_1(arrays)
            elif version != _FORMAT:
                raise CheckpointError(
                    f"{source} has format {version}, and this version of dqnkit reads up to "
                    f"{_FORMAT}: use the version that wrote it"
                )
            return cls._from_format_2(arrays)
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{source} is not the checkpoint of a run: {error}") from error

    @classmethod
    def _from_format_2(cls, arrays: Arrays) -> Checkpoint:
        own = {k.removeprefix("run/"): v for k, v in arrays.items() if k.startswith("run/")}
        clocks = {
            each.name: own[f"clocks/{each.name}"].item()
            for each in fields(Clocks)
            if each.name not in _LATER_CLOCKS or f"clocks/{each.name}" in own
        }
        return cls(
            config=own["config"].tobytes().decode(),
            iteration=int(own["iteration"]),
            loop={k: v for k, v in arrays.items() if not k.startswith("run/")},
            evaluations=tuple(_evaluations(own)),
            best=int(own["best"]),
            best_weights=own["best_weights"],
            clocks=Clocks(**clocks),
        )


class CheckpointFolder:
    """Folder of one run's checkpoints, of which the newest few are kept."""

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path = path
        self._keep = keep

    def add(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and remove old ones; return its path.

        Raises:
          OSError: If it cannot be written; earlier ones stay as they are.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        remove_partial_files(self.path)
        path = self.path / f"iteration-{checkpoint.iteration:012d}.npz"
        checkpoint.save(path)
        paths = self._newest_first()
        # Newer ones are damaged: the run would have been resumed from them otherwise.
        here = paths.index(path)
        for other in paths[:here] + paths[here + self._keep :]:
            other.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest undamaged checkpoint, and descriptions of damaged newer ones.

        Raises:
          CheckpointError: If the newest undamaged file has an unknown format: a version of dqnkit
            that knows it must resume the run, as this one would remove the file.
        """
        damaged: list[str] = []
        for path in self._newest_first():
            try:
                arrays = load_arrays(path)
            except CheckpointError as error:
                damaged.append(str(error))
            else:
                return Checkpoint._from_arrays(arrays, str(path)), damaged
        return None, damaged

    def copy_newest(self, artifacts: Path) -> bool:
        """Copy the newest undamaged checkpoint into a folder of artifacts; False if there is none.

        Raises:
          OSError: If it cannot be copied.
        """
        for source in self._newest_first():
            try:
                load_arrays(source)
            except CheckpointError:
                continue
            target = artifacts / Artifact.CHECKPOINTS / Artifact.LAST_CHECKPOINT
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            return True
        return False

    def _newest_first(self) -> list[Path]:
        found = self.path.iterdir() if self.path.is_dir() else ()
        return sorted((path for path in found if _NAME.fullmatch(path.name)), reverse=True)


class CheckpointWriter:
    """The writer of a run's checkpoints, which decides when one is due and measures the cost."""

    def __init__(self, tracker: Tracker, interval: int | None) -> None:
        """Make a writer.

        Args:
          tracker: Record of the run, whose folder holds the checkpoints; without a folder nothing
            is written.
          interval: Iterations between two checkpoints; None decides by their cost in time.
        """
        self._tracker = tracker
        self._interval = interval
        self._next = math.inf
        self.last_iteration = -1
        """Iteration of the newest checkpoint; -1 if there is none."""
        self.count = 0
        self.seconds = 0.0
        """Seconds spent on writing."""
        self.megabytes = 0.0
        """Size of the newest checkpoint."""
        self.problem: str | None = None
        """Description of the failure of the last attempt; None if it succeeded."""

    @property
    def folder(self) -> CheckpointFolder | None:
        """Folder of the checkpoints; None if the run keeps none."""
        home = self._tracker.folder
        return CheckpointFolder(home / Artifact.CHECKPOINTS) if home is not None else None

    def start_timer(self) -> None:
        """Restart the timer; call it when training begins."""
        self._next = time.perf_counter() + _LEAST_SECONDS

    def next_stop(self, iteration: int, total: int) -> int:
        """Return the first iteration after `iteration` at which a checkpoint must be written."""
        if self._interval is None or self.folder is None:
            return total
        return (iteration // self._interval + 1) * self._interval

    def is_due(self, iteration: int) -> bool:
        """Return whether a checkpoint is to be written at an iteration."""
        if self.folder is None or iteration == self.last_iteration:
            return False
        if self._interval is not None:
            return iteration % self._interval == 0
        return time.perf_counter() >= self._next

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint. If the disk is full, it is skipped and the run continues."""
        folder = self.folder
        if folder is None:
            return
        self._tracker.sync_to_disk()
        start = time.perf_counter()
        try:
            path = folder.add(checkpoint)
            self.megabytes = path.stat().st_size / 1e6
        except OSError as error:
            self.failed(checkpoint.iteration, error)
            return
        seconds = time.perf_counter() - start
        self.problem = None
        self.last_iteration = checkpoint.iteration
        self.count += 1
        self.seconds += seconds
        self._next = time.perf_counter() + max(_LEAST_SECONDS, seconds / _SHARE)

    def failed(self, iteration: int, error: OSError) -> None:
        """Record that a checkpoint could not be written; another attempt follows later."""
        rest = "the run has none yet"
        if self.last_iteration >= 0:
            rest = f"that of iteration {self.last_iteration:,} is kept"
        self.problem = (
            f"the checkpoint of iteration {iteration:,} cannot be written: "
            f"{error.strerror or error}; {rest}"
        )
        self._next = time.perf_counter() + _LEAST_SECONDS


def _evaluation_arrays(evaluations: Sequence[Evaluation]) -> Arrays:
    return {
        "evaluations/iterations": np.array([each.iteration for each in evaluations], np.int64),
        "evaluations/env_steps": np.array([each.env_steps for each in evaluations], np.int64),
        "evaluations/returns": np.array([each.returns for each in evaluations], np.float64),
        "evaluations/lengths": np.array([each.lengths for each in evaluations], np.int64),
    }


def _evaluations(own: Mapping[str, np.ndarray]) -> list[Evaluation]:
    names = ("iterations", "env_steps", "returns", "lengths")
    rows = zip(*(own[f"evaluations/{name}"].tolist() for name in names), strict=True)
    return [
        Evaluation(
            iteration=iteration, env_steps=steps, returns=tuple(returns), lengths=tuple(lengths)
        )
        for iteration, steps, returns, lengths in rows
    ]


# -- Format 1, which named leaves by their positions

_INTERVAL = ("updates", "loss", "steps", "exploration", "episodes", "returns", "lengths")
_GRAPH_LEAVES = (
    "loop/iteration",
    "loop/env_steps",
    "loop/episodes/state",
    "loop/episodes/elapsed",
    "loop/returns",
    "loop/replay/table",
    "loop/replay/added",
)
_GENERATOR_INTEGERS = ("buffer_pos", "has_uint32", "uinteger")


def _from_format_1(arrays: Arrays) -> Arrays:
    """Give the arrays of format 1 the names of format 2."""
    renamed = dict(arrays)
    clocks = renamed.pop("run/clocks").tolist()  # counts were saved as float64, too
    renamed |= {
        f"run/clocks/{name}": np.array(type(default)(value))
        for (name, default), value in zip(asdict(Clocks()).items(), clocks, strict=False)
    }
    for name in ("iterations", "env_steps", "returns", "lengths"):
        renamed[f"run/evaluations/{name}"] = renamed.pop(f"run/{name}")
    if "loop/0" in renamed:
        count = sum(name.startswith("loop/") for name in renamed)
        for position, name in enumerate(_graph_leaves_of_format_1(count)):
            renamed[name] = renamed.pop(f"loop/{position}")
        return renamed
    counters, interval = renamed.pop("loop/counters"), renamed.pop("loop/window")
    renamed |= {"loop/iteration": counters[0], "loop/env_steps": counters[1]}
    renamed |= {f"loop/interval/{n}": v for n, v in zip(_INTERVAL, interval, strict=True)}
    integers = renamed.pop("random/rest")
    renamed |= {f"random/{n}": v for n, v in zip(_GENERATOR_INTEGERS, integers, strict=True)}
    return renamed


def _graph_leaves_of_format_1(count: int) -> list[str]:
    """Return the names of a graph loop's leaves; prioritized replay has its sum tree as well."""
    levels = count - len(_GRAPH_LEAVES) - len(_INTERVAL) - 1
    tree = [f"loop/replay/priorities/levels/{level}" for level in range(levels)]
    highest = ["loop/replay/priorities/highest"] if levels > 0 else []
    return [*_GRAPH_LEAVES, *tree, *highest, *(f"loop/interval/{name}" for name in _INTERVAL)]
