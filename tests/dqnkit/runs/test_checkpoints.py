from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit._system import arrays
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import CheckpointError
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.events import RunStarted, RunStatus
from dqnkit.runs import checkpoints
from dqnkit.runs.checkpoints import Checkpoint, CheckpointFolder, CheckpointWriter, Clocks
from dqnkit.runs.components import make_loop
from dqnkit.runs.result import TrainResult
from dqnkit.runs.trainer import resume, train
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.names import RunKind, Tag
from dqnkit.tracking.tracker import RunHeader, Tracker
from tests.arithmetic import recorded_arithmetic
from tests.events import Events
from tests.processes import assert_same_state, last_state, runs
from tests.runs import make_store

Small = Callable[..., Config]

CHECKPOINT = Checkpoint(
    config="name: ünïcode\n",
    iteration=5,
    loop={
        "loop/iteration": np.array(5),
        "loop/replay/table": np.arange(6, dtype=np.float32).reshape(2, 3),
        "agent/online/parameters": np.float32([1.5, -2.5]),
        "random/key": np.uint64([2**63, 1]),
    },
    evaluations=(
        Evaluation(iteration=0, env_steps=20, returns=(1.0, 2.5), lengths=(1, 2)),
        Evaluation(iteration=4, env_steps=24, returns=(3.0, 0.1), lengths=(3, 4)),
    ),
    best=1,
    best_weights=np.float32([0.5, 0.25]),
    clocks=Clocks(10.5, 2.5, 24, 3, 0.125),
)


def assert_same_checkpoint(one: Checkpoint, other: Checkpoint) -> None:
    for name in ("config", "iteration", "evaluations", "best", "clocks"):
        assert getattr(one, name) == getattr(other, name)
    assert_same_state(one.loop, other.loop)
    np.testing.assert_array_equal(one.best_weights, other.best_weights)


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    CHECKPOINT.save(Path("a.npz"))
    loaded = Checkpoint.load(Path("a.npz"))
    assert_same_checkpoint(loaded, CHECKPOINT)
    clocks = loaded.clocks
    assert [type(value) for value in vars(clocks).values()] == [
        *(float, float, int, int, float),
        *(float, float),
    ]
    assert clocks.steps_per_second == 24 / 2.5
    assert Clocks().steps_per_second == 0


def test_a_checkpoint_before_the_first_evaluation_is_read() -> None:
    empty = replace(CHECKPOINT, evaluations=(), best=-1, best_weights=np.zeros(0, np.float32))
    empty.save(Path("a.npz"))
    assert_same_checkpoint(Checkpoint.load(Path("a.npz")), empty)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_only_the_weights_decide_whether_a_checkpoint_is_finite(value: float) -> None:
    def with_leaf(name: str) -> Checkpoint:
        return replace(CHECKPOINT, loop={**CHECKPOINT.loop, name: np.float32([1.0, value])})

    assert CHECKPOINT.is_finite
    assert with_leaf("loop/returns").is_finite
    assert not with_leaf("agent/target/parameters").is_finite


def _rewrite(path: Path, **changes: Any) -> None:
    """Change or remove (None) arrays of a checkpoint under `run/`."""
    changed = arrays.load_arrays(path) | {f"run/{name}": value for name, value in changes.items()}
    arrays.save_arrays(path, {k: v for k, v in changed.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": np.array(3)}, "has format 3, and this version of dqnkit reads up to 2"),
        ({"format": None}, "is not the checkpoint of a run: 'run/format'"),
        ({"best": None}, "is not the checkpoint of a run: 'best'"),
        ({"clocks/checkpoints": None}, "is not the checkpoint of a run: 'clocks/checkpoints'"),
        ({"evaluations/returns": np.zeros((1, 2))}, "is not the checkpoint of a run: zip"),
        ({"format": np.array(1)}, "is not the checkpoint of a run: 'run/clocks'"),
    ],
)
def test_a_file_with_other_contents_is_refused(changes: dict[str, Any], problem: str) -> None:
    path = Path("a.npz")
    CHECKPOINT.save(path)
    _rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=problem):
        Checkpoint.load(path)
    with pytest.raises(CheckpointError, match=r"^the last one "):
        Checkpoint.load(path, "the last one")


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.npz"):
        Checkpoint.load(Path("nowhere.npz"))


# -- Folders


def _iterations(folder: CheckpointFolder) -> list[int]:
    return sorted(int(path.stem.partition("-")[2]) for path in folder.path.iterdir())


def test_a_folder_keeps_the_newest_checkpoints() -> None:
    folder = CheckpointFolder(Path("checkpoints"))
    assert folder.newest() == (None, [])
    for iteration in (7, 14, 100):
        path = folder.add(replace(CHECKPOINT, iteration=iteration))
        assert path.name == f"iteration-{iteration:012d}.npz"
    (Path("checkpoints") / "notes.txt").touch()  # left alone
    newest, damaged = folder.newest()
    assert newest is not None
    assert (newest.iteration, damaged) == (100, [])
    (Path("checkpoints") / "notes.txt").unlink()
    assert _iterations(folder) == [14, 100]


def test_damaged_newer_checkpoints_are_described_and_then_removed() -> None:
    folder = CheckpointFolder(Path("checkpoints"))
    for iteration in (10, 20):
        path = folder.add(replace(CHECKPOINT, iteration=iteration))
    path.write_bytes(path.read_bytes()[:-9])
    newest, (damage,) = folder.newest()
    assert newest is not None
    assert newest.iteration == 10
    assert path.name in damage
    folder.add(replace(CHECKPOINT, iteration=15))
    assert _iterations(folder) == [10, 15]


def test_a_newer_format_is_not_taken_for_damage() -> None:
    """Otherwise the run would continue from an older checkpoint, and the newer be removed."""
    folder = CheckpointFolder(Path("checkpoints"))
    for iteration in (10, 20):
        path = folder.add(replace(CHECKPOINT, iteration=iteration))
    _rewrite(path, format=np.array(3))
    with pytest.raises(CheckpointError, match="use the version that wrote it"):
        folder.newest()


def test_the_newest_undamaged_checkpoint_is_copied_as_an_artifact() -> None:
    folder = CheckpointFolder(Path("checkpoints"))
    assert not folder.copy_newest(Path("artifacts"))
    for iteration in (10, 20):
        path = folder.add(replace(CHECKPOINT, iteration=iteration))
    path.write_bytes(b"")
    assert folder.copy_newest(Path("artifacts"))
    assert Checkpoint.load(Path("artifacts/checkpoints/last.npz")).iteration == 10


# -- The writer


class InFolder(Tracker):
    """A tracker with a folder of its own."""

    def __init__(self) -> None:
        self.synced = 0

    @property
    def folder(self) -> Path:
        return Path("run")

    def sync_to_disk(self) -> None:
        self.synced += 1


def test_an_interval_decides_where_chunks_end_and_checkpoints_are_due() -> None:
    writer = CheckpointWriter(InFolder(), 20)
    assert [writer.next_stop(i, 60) for i in (0, 19, 20, 59)] == [20, 20, 40, 60]
    assert [writer.is_due(i) for i in (19, 20, 21)] == [False, True, False]
    writer.write(replace(CHECKPOINT, iteration=20))
    assert not writer.is_due(20)


def test_without_an_interval_the_cost_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now)
    writer = CheckpointWriter(InFolder(), None)
    now = 200.0
    writer.start_timer()
    assert writer.next_stop(0, 60) == 60
    assert not writer.is_due(1)
    now = 210.0
    assert writer.is_due(1)

    def slow(*_: Any) -> Path:
        nonlocal now
        now += 3.0
        return Path(__file__)

    monkeypatch.setattr(CheckpointFolder, "add", slow)
    writer.write(replace(CHECKPOINT, iteration=1))  # takes 3 s, which may be 1 % of the time
    now += 299.0
    assert not writer.is_due(2)
    now += 1.0
    assert writer.is_due(2)
    assert (writer.count, writer.seconds) == (1, 3.0)
    assert writer.megabytes == Path(__file__).stat().st_size / 1e6


def test_without_a_folder_nothing_is_written() -> None:
    writer = CheckpointWriter(Tracker(), 20)
    assert writer.folder is None
    assert writer.next_stop(0, 60) == 60
    assert not writer.is_due(20)
    writer.write(CHECKPOINT)
    assert (writer.count, writer.last_iteration) == (0, -1)
    assert not list(Path.cwd().iterdir())


def test_a_full_disk_is_a_problem_until_the_next_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    tracker = InFolder()
    writer = CheckpointWriter(tracker, 20)
    with monkeypatch.context() as patched:
        patched.setattr(CheckpointFolder, "add", full)
        writer.write(replace(CHECKPOINT, iteration=20))
        assert writer.problem == (
            "the checkpoint of iteration 20 cannot be written: No space left on device; the run "
            "has none yet"
        )
    writer.write(replace(CHECKPOINT, iteration=40))
    assert writer.problem is None
    assert tracker.synced == 2
    with monkeypatch.context() as patched:
        patched.setattr(CheckpointFolder, "add", full)
        writer.write(replace(CHECKPOINT, iteration=1060))
    assert writer.problem is not None
    assert writer.problem.endswith("that of iteration 40 is kept")
    assert (writer.count, writer.last_iteration) == (1, 40)


# -- Checkpoints of dqnkit 0.1

FORMAT_1 = Path(__file__).with_name("format_1")
"""Checkpoints at iteration 40 of 60, in the middle of a log interval, with what followed."""
EXPECTED: dict[str, dict[str, Any]] = json.loads(
    (FORMAT_1 / "expected.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", EXPECTED)
def test_format_1_is_read_with_the_names_of_format_2(name: str) -> None:
    checkpoint = Checkpoint.load(FORMAT_1 / f"{name}.npz")
    assert checkpoint.iteration == 40
    assert [each.iteration for each in checkpoint.evaluations] == [0, 20, 40]
    clocks = checkpoint.clocks
    assert [type(value) for value in vars(clocks).values()] == [
        *(float, float, int, int, float),
        *(float, float),
    ]
    config = loading.load_recorded(checkpoint.config, "config.yaml")
    assert clocks.training_steps == 40 * config.env.num_envs
    loop = make_loop(*resolve(config))
    loop.restore(checkpoint.loop)
    assert loop.iteration == 40
    state = loop.state()
    assert {k for k in state if not k.startswith("agent/")} == {
        k for k in checkpoint.loop if not k.startswith("agent/")
    }
    for key, value in state.items():
        # In the replay of the host loop, new episodes have begun.
        if key in checkpoint.loop and not key.startswith("replay/"):
            assert value.dtype == checkpoint.loop[key].dtype, key
            np.testing.assert_array_equal(value, checkpoint.loop[key], err_msg=key)
    assert float(state["loop/interval/steps"]) > 0
    loop.close()


@recorded_arithmetic
@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_that_dqnkit_0_1_has_begun_ends_with_the_numbers_of_dqnkit_0_1(name: str) -> None:
    """The numbers are those that dqnkit 0.1 ends with after it has resumed the run."""
    expected, events = EXPECTED[name], Events()
    result = _resume_format_1(name, events)
    assert events.of(RunStarted)[0].iteration == 40
    assert events.losses == expected["losses"]
    assert [list(each.returns) for each in result.evaluations] == expected["returns"]
    assert list(result.final.returns) == expected["final"]
    assert (result.env_steps, result.iterations) == (expected["env_steps"], 60)
    assert isinstance(result.checkpoints, int)


@pytest.mark.slow
@recorded_arithmetic
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("graph")])
def test_a_run_that_dqnkit_0_1_has_begun_ends_as_if_it_had_not_been_interrupted(name: str) -> None:
    _resume_format_1(name, Events())
    (resumed,) = runs()
    config = Checkpoint.load(FORMAT_1 / f"{name}.npz").config
    whole = train(loading.load_recorded(config, "config.yaml"))
    assert list(whole.final.returns) == EXPECTED[name]["final"]
    state = next(last_state(run) for run in runs() if run.info.run_id == whole.run_id)
    assert_same_state(last_state(resumed), state)


def _resume_format_1(name: str, events: Events) -> TrainResult:
    """Record an interrupted run with a checkpoint of dqnkit 0.1, and resume it."""
    make_store()
    files = Path("files/checkpoints")
    files.mkdir(parents=True)
    (files / "last.npz").write_bytes((FORMAT_1 / f"{name}.npz").read_bytes())
    tracker = MlflowTracker(locate_store())
    tracker.start(RunHeader("format-1", "old", {}, {Tag.KIND: RunKind.TRAINING}))
    tracker.add_artifacts(Path("files"))
    assert tracker.finish(RunStatus.KILLED) == []
    return resume("old", listener=events)
