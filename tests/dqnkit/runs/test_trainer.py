from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dqnkit.runs.reporting import Progress, SilentReporter
from dqnkit.runs.snapshot import Clocks, Snapshot

from dqnkit._system import arrays
from dqnkit._system.tensorflow import tf
from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, InterruptedRun, TrackingError, TrainingDivergedError
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.events import RunStatus
from dqnkit.loops.graph import GraphLoop
from dqnkit.runs.components import build
from dqnkit.runs.resumption import Resumption
from dqnkit.runs.trainer import resume, train
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import NullTracker, RunRecord

Small = Callable[..., Config]

OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


class MemoryTracker(NullTracker):
    """A record in lists; it demands the order that the protocol promises."""

    keeps_files = True

    def __init__(self) -> None:
        self.record: RunRecord | None = None
        self.points: list[tuple[str, float, int]] = []
        self.files: dict[str, bytes] = {}
        self.policies: list[np.ndarray] = []
        self.folders: list[list[str]] = []
        self.statuses: list[RunStatus] = []
        self.description = ""

    def start(self, record: RunRecord) -> list[str]:
        assert self.record is None
        self.record = record
        return []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        assert self.record is not None
        assert not self.statuses
        self.points += [(key, value, step) for key, value in metrics.items()]

    def artifacts(self, folder: Path) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.folders.append(sorted(path.name for path in files))
        self.files |= {str(path.relative_to(folder)): path.read_bytes() for path in files}

    def policy(self, policy: PolicyFiles) -> None:
        saved = tf.saved_model.load(str(policy.saved_model))
        served = saved.signatures["serving_default"](observations=tf.constant(OBSERVATIONS))
        self.policies.append(served["q_values"].numpy())

    def describe(self, markdown: str) -> None:
        self.description = markdown

    def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
        self.statuses.append(status)
        return []

    def series(self, key: str) -> list[tuple[int, float]]:
        return [(step, value) for name, value, step in self.points if name == key]


def test_a_run_records_everything_that_it_promises(small: Small) -> None:
    tracker = MemoryTracker()
    config = small("name=my-experiment", "tracking.tags={team: blue}", "description=Says **why**.")
    result = train(config, tracker, run_name="a-name")

    assert tracker.statuses == [RunStatus.FINISHED]
    assert tracker.record is not None
    assert (tracker.record.experiment, tracker.record.run_name) == ("my-experiment", "a-name")
    assert tracker.record.params == resolve(config)[0].flat()
    assert tracker.record.params["training.loop"] == "graph"
    tags = tracker.record.tags
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
    """What was recorded but for how long it took."""
    clocks = ("time/", "train/steps_per_second")
    return [point for point in tracker.points if not point[0].startswith(clocks)]


def test_the_recorded_configuration_repeats_the_run(small: Small) -> None:
    first, again = MemoryTracker(), MemoryTracker()
    train(small("training.seed=5"), first)
    Path("config.yaml").write_bytes(first.files["config.yaml"])
    train(loading.load("config.yaml"), again)
    assert repr(_untimed(first)) == repr(_untimed(again))
    assert first.files["evaluation.json"] == again.files["evaluation.json"]


def _checkpoint(tracker: MemoryTracker, name: str) -> dict[str, np.ndarray]:
    Path(name).write_bytes(tracker.files[f"checkpoints/{name}"])
    return arrays.load_arrays(Path(name))


def test_the_last_checkpoint_is_the_loops_state_and_the_policy_is_the_best(small: Small) -> None:
    tracker = MemoryTracker()
    # Steps as large as these undo what was learned: the best is not the last.
    config = small("optimizer.learning_rate=1", "training.num_iterations=200")
    result = train(config, tracker)
    assert result.best.iteration < result.last.iteration == 200

    loop = build(*resolve(config)).loop
    loop.restore(_checkpoint(tracker, "last.npz"))
    assert (loop.iteration, loop.env_steps) == (200, 220)

    again = build(*resolve(config)).loop
    again.start()
    again.advance(result.best.iteration)
    best = _checkpoint(tracker, "best.npz")
    np.testing.assert_array_equal(best["online"], again.policy_weights())
    (served,) = tracker.policies
    assert isinstance(again, GraphLoop)
    expected = again.learner.q_values(tf.constant(OBSERVATIONS)).numpy()
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)


def test_a_signal_while_the_run_is_being_recorded_does_not_change_how_it_ended(
    small: Small,
) -> None:
    class Interrupted(MemoryTracker):
        def artifacts(self, folder: Path) -> None:
            super().artifacts(folder)
            if "evaluation.json" in self.folders[-1]:
                os.kill(os.getpid(), signal.SIGINT)

        def finish(self, status: RunStatus, *, patiently: bool = True) -> list[str]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            return super().finish(status)

    tracker = Interrupted()
    assert train(small(), tracker).status is RunStatus.FINISHED
    assert tracker.statuses == [RunStatus.FINISHED]


def test_an_end_between_evaluations_is_evaluated_too(small: Small) -> None:
    tracker = MemoryTracker()
    train(small("training.num_iterations=50"), tracker)
    document = json.loads(tracker.files["evaluation.json"])
    assert [e["iteration"] for e in document["evaluations"]] == [0, 20, 40, 50]


def test_evaluation_episodes_differ_from_each_other_but_not_between_runs(small: Small) -> None:
    """With weights that never change, evaluations differ by their episodes alone."""
    still = small("training.gradient_steps_per_iteration=0", "evaluation.num_eval_episodes=50")
    trackers = [MemoryTracker(), MemoryTracker()]
    for tracker in trackers:
        train(still, tracker)
    first, second = (json.loads(t.files["evaluation.json"])["evaluations"] for t in trackers)
    assert first == second
    assert len({tuple(evaluation["returns"]) for evaluation in first}) == len(first)


class _At(SilentReporter):
    """Does something at the first chunk of training."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act

    def progressed(self, progress: Progress) -> None:
        if self._act is not None:
            act, self._act = self._act, None
            act()


@pytest.fixture
def _under_nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_under_nohup")
def test_under_nohup_the_end_of_a_session_ends_no_run(small: Small) -> None:
    tracker = MemoryTracker()
    train(small(), tracker, _At(lambda: os.kill(os.getpid(), signal.SIGHUP)))
    assert tracker.statuses == [RunStatus.FINISHED]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_as_killed_with_what_it_had(small: Small, number: int) -> None:
    tracker = MemoryTracker()
    config = small("training.num_iterations=1_000_000", "evaluation.eval_interval=1_000_000")
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRun, match=r"of 1,000,000 iterations") as caught:
        train(config, tracker, _At(lambda: os.kill(os.getpid(), number)))
    assert caught.value.exit_code == 130
    assert tracker.statuses == [RunStatus.KILLED]
    assert {"config.yaml", "checkpoints/last.npz", "evaluation.json"} <= tracker.files.keys()
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_at_once_and_the_run_is_still_killed(small: Small) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    tracker = MemoryTracker()
    with pytest.raises(KeyboardInterrupt):
        train(small(), tracker, _At(twice))
    assert tracker.statuses == [RunStatus.KILLED]
    assert tracker.files.keys() == {"config.yaml"}
    assert "did not end by itself" in tracker.description


def test_an_exception_ends_the_run_as_failed(small: Small) -> None:
    def fail() -> None:
        raise RuntimeError("from within")

    tracker = MemoryTracker()
    with pytest.raises(RuntimeError, match="from within"):
        train(small(), tracker, _At(fail))
    assert tracker.statuses == [RunStatus.FAILED]


def test_a_loss_that_overflows_ends_the_run_as_failed(small: Small) -> None:
    tracker = MemoryTracker()
    config = small("optimizer.learning_rate=1e30", "training.log_interval=1000")
    with pytest.raises(TrainingDivergedError, match=r"learning_rate"):
        train(config, tracker)
    assert tracker.statuses == [RunStatus.FAILED]


def test_what_cannot_be_built_leaves_no_record(small: Small) -> None:
    tracker = MemoryTracker()
    with pytest.raises(ConfigError, match="keep fewer transitions"):
        train(small("replay.replay_buffer_max_length=900000000000"), tracker)
    assert tracker.record is None
    assert not tracker.statuses


def test_a_checkpoint_that_does_not_fit_does_not_touch_the_record(small: Small) -> None:
    config = small()
    states = {"replay/cursor": np.zeros(3)}
    snapshot = Snapshot(loading.dump(config), 5, states, (), -1, np.zeros(0), Clocks())
    tracker = MemoryTracker()
    with pytest.raises(ConfigError, match="saved state"):
        resume(Resumption("id", "name", config, None, snapshot), tracker)
    assert tracker.record is None
    assert not tracker.statuses


def test_a_store_that_cannot_be_opened_is_told_before_any_training(small: Small) -> None:
    class Closed(MemoryTracker):
        def start(self, record: RunRecord) -> list[str]:
            raise TrackingError("no store here")

    heard: list[Any] = []
    with pytest.raises(TrackingError, match="no store here"):
        train(small(), Closed(), _At(lambda: heard.append("progress")))
    assert not heard


def test_the_reporter_hears_each_evaluation_and_all_iterations(small: Small) -> None:
    class Listener(SilentReporter):
        def __init__(self) -> None:
            self.evaluations: list[Evaluation] = []
            self.iterations: list[int] = []

        def progressed(self, progress: Progress) -> None:
            self.iterations.append(progress.iteration)

        def evaluated(self, evaluation: Evaluation, best: Evaluation) -> None:
            assert best.summary.mean >= evaluation.summary.mean
            self.evaluations.append(evaluation)

    listener = Listener()
    result = train(small(), reporter=listener)
    assert [e.iteration for e in listener.evaluations] == [0, 20, 40, 60]
    assert listener.iterations[-1] == 60
    assert result.run_id is None
    assert result.last == listener.evaluations[-1]
    assert np.isfinite(result.as_dict()["final"]["ci_low"])
