from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

import dqnkit
from dqnkit._system import arrays
from dqnkit._system.tensorflow import tf
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import (
    CheckpointError,
    ConfigError,
    InterruptedRun,
    TrackingError,
    TrainingDivergedError,
)
from dqnkit.events import (
    Collecting,
    Evaluated,
    Evaluating,
    Event,
    Progress,
    RunEnded,
    RunPreparing,
    RunStarted,
    RunStatus,
    Warned,
)
from dqnkit.loops.graph import GraphLoop
from dqnkit.processes.interrupts import Interrupts
from dqnkit.runs.checkpoints import Checkpoint, Clocks
from dqnkit.runs.components import make_loop
from dqnkit.runs.resumption import Resumption
from dqnkit.runs.trainer import resume, train
from dqnkit.tracking.location import StoreLocation, locate_store
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import ParentRun, RunHeader, Tracker
from tests.events import Events, once, stop_at
from tests.runs import make_store

Small = Callable[..., Config]

OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


class MemoryTracker(Tracker):
    """A record in memory that checks the order of calls that `Tracker` promises."""

    keeps_files = True

    def __init__(self) -> None:
        self.header: RunHeader | None = None
        self.points: list[tuple[str, float, int]] = []
        self.files: dict[str, bytes] = {}
        self.policies: list[np.ndarray] = []
        self.folders: list[list[str]] = []
        self.statuses: list[RunStatus] = []
        self.description = ""

    @override
    def start(self, header: RunHeader) -> list[str]:
        assert self.header is None
        self.header = header
        return []

    @override
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        assert self.header is not None
        assert not self.statuses
        self.points += [(key, value, step) for key, value in metrics.items()]

    @override
    def add_artifacts(self, folder: Path) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.folders.append(sorted(path.name for path in files))
        self.files |= {str(path.relative_to(folder)): path.read_bytes() for path in files}

    @override
    def add_policy(self, policy: PolicyFiles) -> None:
        saved = tf.saved_model.load(str(policy.saved_model))
        served = saved.signatures["serving_default"](observations=tf.constant(OBSERVATIONS))
        self.policies.append(served["q_values"].numpy())

    @override
    def describe(self, markdown: str) -> None:
        self.description = markdown

    @override
    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        self.statuses.append(status)
        return []

    def series(self, key: str) -> list[tuple[int, float]]:
        return [(step, value) for name, value, step in self.points if name == key]


class Use:
    """Makes `train` and `resume` record into a given tracker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, tracker: MemoryTracker) -> MemoryTracker:
        self._monkeypatch.setattr("dqnkit.runs.trainer.make_tracker", lambda *_: tracker)
        return tracker


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    return Use(monkeypatch)


@pytest.fixture
def tracker(use: Use) -> MemoryTracker:
    return use(MemoryTracker())


def test_a_run_records_metrics_files_tags_and_a_description(
    small: Small, tracker: MemoryTracker
) -> None:
    config = small(
        *("training.loop=auto", "name=my-experiment"),
        *("tracking.tags={team: blue}", "description=Says **why**."),
    )
    result = train(config, run_name="a-name")

    assert tracker.statuses == [RunStatus.FINISHED]
    assert tracker.header is not None
    assert (tracker.header.experiment, tracker.header.run_name) == ("my-experiment", "a-name")
    assert tracker.header.params == resolve(config)[0].flat()
    assert tracker.header.params["training.loop"] == "graph"
    assert not tracker.header.repeats
    tags = tracker.header.tags
    assert tags["team"] == "blue"
    assert {"dqnkit.version", "dqnkit.command", "dqnkit.device", "dqnkit.loop"} <= tags.keys()

    # 20 initial steps, then one an iteration; evaluations before, at each interval, at the end.
    assert [step for step, _ in tracker.series("eval/return_mean")] == [20, 40, 60, 80]
    assert [step for step, _ in tracker.series("train/loss")] == [30, 40, 50, 60, 70, 80]
    best = tracker.series("best/return_mean")
    assert [value for _, value in best] == sorted(value for _, value in best)
    assert best[-1][1] == max(value for _, value in tracker.series("eval/return_mean"))
    assert best[-1][0] == result.best.env_steps
    assert tracker.series("final/return_mean") == [(80, result.final.summary.mean)]
    low, high = (
        tracker.series("final/return_ci_low")[0][1],
        tracker.series("final/return_ci_high")[0][1],
    )
    assert low <= tracker.series("final/return_iqm")[0][1] <= high
    assert result.final.summary.n == 6

    assert {"config.yaml", "evaluation.json", "learning_curve.png"} <= tracker.files.keys()
    assert tracker.files["learning_curve.png"].startswith(b"\x89PNG")
    document = json.loads(tracker.files["evaluation.json"])
    assert [e["iteration"] for e in document["evaluations"]] == [0, 20, 40, 60]
    assert len(document["final"]["returns"]) == 6
    assert len(tracker.policies) == 1
    assert tracker.folders[0] == ["config.yaml"]  # there from the start, however the run ends
    assert tracker.description.startswith("Says **why**.")
    assert "95 % interval" in tracker.description


def _untimed(tracker: MemoryTracker) -> list[tuple[str, float, int]]:
    """Return the recorded points, without those that measure time."""
    clocks = ("time/", "train/steps_per_second")
    return [point for point in tracker.points if not point[0].startswith(clocks)]


def test_the_recorded_configuration_repeats_the_run(small: Small, use: Use) -> None:
    first = use(MemoryTracker())
    train(small("training.seed=5"))
    again = use(MemoryTracker())
    Path("config.yaml").write_bytes(first.files["config.yaml"])
    train(loading.load("config.yaml"))
    assert repr(_untimed(first)) == repr(_untimed(again))
    assert first.files["evaluation.json"] == again.files["evaluation.json"]


def _checkpoint(tracker: MemoryTracker, name: str) -> dict[str, np.ndarray]:
    Path(name).write_bytes(tracker.files[f"checkpoints/{name}"])
    return arrays.load_arrays(Path(name))


def test_the_last_checkpoint_is_the_loops_state_and_the_policy_is_the_best(
    small: Small, tracker: MemoryTracker
) -> None:
    # Steps as large as these undo what was learned: the best policy is not the last.
    config = small(
        *("training.loop=graph", "optimizer.learning_rate=1", "training.num_iterations=200")
    )
    result = train(config)
    assert result.best.iteration < result.last.iteration == 200

    loop = make_loop(*resolve(config))
    _checkpoint(tracker, "last.npz")
    loop.restore(Checkpoint.load(Path("last.npz")).loop)
    assert (loop.iteration, loop.env_steps) == (200, 220)

    again = make_loop(*resolve(config))
    again.start()
    again.advance(result.best.iteration)
    best = _checkpoint(tracker, "best.npz")
    np.testing.assert_array_equal(best["online"], again.policy_weights())
    (served,) = tracker.policies
    assert isinstance(again, GraphLoop)
    expected = again.learner.q_values(tf.constant(OBSERVATIONS)).numpy()
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)


def test_a_signal_while_results_are_recorded_does_not_change_the_status(
    small: Small, use: Use
) -> None:
    class Interrupted(MemoryTracker):
        @override
        def add_artifacts(self, folder: Path) -> None:
            super().add_artifacts(folder)
            if "evaluation.json" in self.folders[-1]:
                os.kill(os.getpid(), signal.SIGINT)

        @override
        def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            return super().finish(status)

    tracker = use(Interrupted())
    assert train(small()).status is RunStatus.FINISHED
    assert tracker.statuses == [RunStatus.FINISHED]


def test_an_end_between_evaluations_is_evaluated_too(small: Small, tracker: MemoryTracker) -> None:
    train(small("training.num_iterations=50"))
    document = json.loads(tracker.files["evaluation.json"])
    assert [e["iteration"] for e in document["evaluations"]] == [0, 20, 40, 50]


def test_evaluation_episodes_differ_from_each_other_but_not_between_runs(
    small: Small, use: Use
) -> None:
    """Evaluations of weights that never change differ by their episodes alone."""
    still = small("training.gradient_steps_per_iteration=0", "evaluation.num_eval_episodes=10")
    trackers = []
    for _ in range(2):
        trackers.append(use(MemoryTracker()))
        train(still)
    first, second = (json.loads(t.files["evaluation.json"])["evaluations"] for t in trackers)
    assert first == second
    assert len({tuple(evaluation["returns"]) for evaluation in first}) == len(first)


# -- Events


def _course(events: list[Event]) -> list[str]:
    """Return the names of the events' classes, with repetitions of `Progress` collapsed.

    What slow evaluations and initial steps report depends on the machine.
    """
    kept = [event for event in events if not isinstance(event, Collecting | Evaluating)]
    names = [type(event).__name__ for event in kept]
    return [n for i, n in enumerate(names) if n != "Progress" or names[i - 1] != "Progress"]


COURSE = [
    "RunPreparing",
    "RunStarted",
    "Evaluated",
    *("Progress", "Evaluated") * 3,
    "RunEnded",
]


def test_two_runs_in_one_process_emit_their_events_in_order(small: Small) -> None:
    graph = small("training.loop=graph")
    first, second = Events(), Events()
    result = dqnkit.train(graph, tracking_uri=None, listener=first, run_name="one")
    dqnkit.train(small(), tracking_uri=None, listener=second)
    assert _course(first.all) == _course(second.all) == COURSE

    (preparing,) = first.of(RunPreparing)
    assert preparing.config == resolve(graph)[0]
    assert preparing.run_name == "one"
    (started,) = first.of(RunStarted)
    assert (started.run_id, started.iteration) == (None, 0)
    assert started.compile_seconds > 0
    assert first.of(RunEnded) == [RunEnded(result)]
    assert first.losses != second.losses


def test_progress_and_evaluations_are_complete(small: Small) -> None:
    events = Events()
    result = train(small(), tracking_uri=None, listener=events)
    iterations = [progress.iteration for progress in events.of(Progress)]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] == 60
    intervals = [each for progress in events.of(Progress) for each in progress.metrics]
    assert [each.iteration for each in intervals] == [10, 20, 30, 40, 50, 60]
    assert [each.env_steps for each in intervals] == [30, 40, 50, 60, 70, 80]

    evaluated = events.of(Evaluated)
    assert tuple(each.evaluation for each in evaluated) == result.evaluations
    assert [each.evaluation.iteration for each in evaluated] == [0, 20, 40, 60]
    for number, each in enumerate(evaluated, start=1):
        means = [earlier.summary.mean for earlier in result.evaluations[:number]]
        assert each.best.summary.mean == max(means)
        assert len(each.late.returns) == 4 * max(1, number - 1)
    assert result.run_id is None
    assert result.last == evaluated[-1].evaluation
    assert np.isfinite(result.as_dict()["final"]["ci_low"])


def test_a_log_interval_that_the_end_cuts_short_is_emitted(small: Small) -> None:
    events = Events()
    train(small("training.log_interval=40"), tracking_uri=None, listener=events)
    intervals = [each for progress in events.of(Progress) for each in progress.metrics]
    assert [each.iteration for each in intervals] == [40, 60]


def test_warnings_of_the_store_come_before_the_start(small: Small, use: Use) -> None:
    class Slow(MemoryTracker):
        @override
        def start(self, header: RunHeader) -> list[str]:
            super().start(header)
            return ["the store does not answer"]

    use(Slow())
    events = Events()
    train(small(), listener=events)
    assert events.all[1] == Warned("the store does not answer")
    assert isinstance(events.all[2], RunStarted)


def test_an_interrupted_run_emits_its_result_and_then_raises(
    small: Small, tracker: MemoryTracker
) -> None:
    events = Events()

    def listener(event: Event) -> None:
        events(event)
        if isinstance(event, Progress):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun):
        train(small(), listener=listener)
    (ended,) = events.of(RunEnded)
    assert events.all[-1] is ended
    assert ended.result.status is RunStatus.KILLED
    assert ended.result.iterations < 60
    assert tracker.statuses == [RunStatus.KILLED]


def test_a_caller_may_end_a_run_without_an_exception(small: Small, tracker: MemoryTracker) -> None:
    interrupts = Interrupts()
    result = train(small(), listener=stop_at(20, interrupts), interrupts=interrupts)
    assert result.status is RunStatus.KILLED
    assert result.iterations == 20
    assert result.final is None  # somebody waits: no more episodes are begun
    assert tracker.statuses == [RunStatus.KILLED]


# -- The record


def test_the_store_and_the_parent_reach_the_tracker(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Config, StoreLocation | None, ParentRun]] = []

    def make_tracker(config: Config, store: StoreLocation | None, parent: ParentRun) -> Tracker:
        given.append((config, store, parent))
        return Tracker()

    monkeypatch.setattr("dqnkit.runs.trainer.make_tracker", make_tracker)
    parent = ParentRun("above", {"dqnkit.study": "a"})
    train(small(), tracking_uri="somewhere", parent=parent)
    assert given == [(resolve(small())[0], locate_store("somewhere"), parent)]


@pytest.mark.parametrize(
    ("assignments", "uri"), [((), None), (("tracking.enabled=false",), "auto")]
)
def test_a_run_without_a_record_writes_nothing(
    small: Small, assignments: tuple[str, ...], uri: str | None
) -> None:
    result = train(small(*assignments), tracking_uri=uri)
    assert result.run_id is None
    assert result.hints == {}
    assert not list(Path.cwd().iterdir())


def test_the_result_holds_the_id_of_the_record(small: Small) -> None:
    make_store()
    events = Events()
    result = train(small(), listener=events)
    assert result.run_id is not None
    assert events.of(RunStarted)[0].run_id == result.run_id
    assert result.problems == []
    assert result.hints["show it"].endswith("dqnkit ui")


@pytest.fixture
def _under_nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_under_nohup")
def test_under_nohup_the_end_of_a_session_ends_no_run(small: Small, tracker: MemoryTracker) -> None:
    train(small(), listener=once(Progress, lambda: os.kill(os.getpid(), signal.SIGHUP)))
    assert tracker.statuses == [RunStatus.FINISHED]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_as_killed_with_its_results(
    small: Small, tracker: MemoryTracker, number: int
) -> None:
    config = small("training.num_iterations=1_000_000", "evaluation.eval_interval=1_000_000")
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRun, match=r"of 1,000,000 iterations") as caught:
        train(config, listener=once(Progress, lambda: os.kill(os.getpid(), number)))
    assert caught.value.exit_code == 130
    assert tracker.statuses == [RunStatus.KILLED]
    assert {"config.yaml", "checkpoints/last.npz", "evaluation.json"} <= tracker.files.keys()
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_at_once_and_the_run_is_still_killed(
    small: Small, tracker: MemoryTracker
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRun, match="interrupted at once after"):
        train(small(), listener=once(Progress, twice))
    assert tracker.statuses == [RunStatus.KILLED]
    assert tracker.files.keys() == {"config.yaml"}
    assert "did not finish" in tracker.description


def test_an_exception_ends_the_run_as_failed(small: Small, tracker: MemoryTracker) -> None:
    def fail() -> None:
        raise RuntimeError("from within")

    with pytest.raises(RuntimeError, match="from within"):
        train(small(), listener=once(Progress, fail))
    assert tracker.statuses == [RunStatus.FAILED]


@pytest.mark.parametrize("loop", ["graph", "host"])
def test_a_loss_that_overflows_ends_the_run_as_failed(
    small: Small, tracker: MemoryTracker, loop: str
) -> None:
    overflowing = ("optimizer.learning_rate=1e30", "training.log_interval=1000")
    config = small(f"training.loop={loop}", *overflowing)
    with pytest.raises(TrainingDivergedError, match=r"learning_rate"):
        train(config)
    assert tracker.statuses == [RunStatus.FAILED]


def test_a_configuration_that_cannot_be_built_leaves_no_record(
    small: Small, tracker: MemoryTracker
) -> None:
    with pytest.raises(ConfigError, match="keep fewer transitions"):
        train(small("replay.replay_buffer_max_length=900000000000"))
    assert tracker.header is None
    assert not tracker.statuses


def test_a_checkpoint_that_does_not_fit_leaves_the_record_alone(
    small: Small, tracker: MemoryTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    states = {"replay/cursor": np.zeros(3)}
    checkpoint = Checkpoint(loading.dump(config), 5, states, (), -1, np.zeros(0), Clocks())
    found = Resumption("id", "name", config, None, checkpoint)
    monkeypatch.setattr("dqnkit.runs.trainer.find_resumption", lambda *_: found)
    with pytest.raises(CheckpointError, match=r"iteration 5 does not fit.*saved state"):
        resume("name")
    assert tracker.header is None
    assert not tracker.statuses


def test_a_store_that_cannot_be_opened_is_reported_before_any_training(
    small: Small, use: Use
) -> None:
    class Closed(MemoryTracker):
        @override
        def start(self, header: RunHeader) -> list[str]:
            raise TrackingError("no store here")

    use(Closed())
    events = Events()
    with pytest.raises(TrackingError, match="no store here"):
        train(small(), listener=events)
    assert [type(event) for event in events.all] == [RunPreparing]
