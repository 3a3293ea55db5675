from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents.policies import GreedyPolicy
from dqnkit.config import loading
from dqnkit.config.sections import Config, NetworkConfig
from dqnkit.errors import TrackingError
from dqnkit.events import RunStatus
from dqnkit.runs.sync import sync
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from dqnkit.tracking.names import RunKind, Tag
from dqnkit.tracking.policy_folder import PolicyFiles
from dqnkit.tracking.tracker import ParentRun, RunHeader
from tests.dqnkit.tracking.recording_processes import record_one_of_four, start_and_die
from tests.processes import FORKED
from tests.runs import make_store
from tests.specs import vector_spec

TAGS = {"tag": "value", Tag.KIND: RunKind.TRAINING}
HEADER = RunHeader("an-experiment", "a-run", {"agent.gamma": 0.9}, TAGS, "**text**")


def _client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient(locate_store().uri)


@pytest.fixture
def tracker() -> MlflowTracker:
    make_store()
    return MlflowTracker(locate_store())


def test_everything_that_is_logged_is_in_the_store(tracker: MlflowTracker) -> None:
    assert tracker.run_id is None
    assert tracker.folder is None
    tracker.start(HEADER)
    for step in range(3_000):
        tracker.log({"train/loss": step / 2, "nothing": float("nan")}, step)
    folder = Path("files")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.npz").write_bytes(b"x")
    tracker.add_artifacts(folder)
    tracker.describe("**other text**")
    assert tracker.finish(RunStatus.FINISHED) == []

    client = _client()
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "a-run")
    assert run.data.params == {"agent.gamma": "0.9"}
    assert run.data.tags["tag"] == "value"
    assert run.data.tags["mlflow.note.content"] == "**other text**"
    history = client.get_metric_history(tracker.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(i, i / 2) for i in range(3_000)]
    assert "nothing" not in run.data.metrics
    assert [f.path for f in client.list_artifacts(tracker.run_id, "checkpoints")] == [
        "checkpoints/last.npz"
    ]
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "an-experiment"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert Path("mlruns/artifacts/an-experiment").resolve().as_uri() == experiment.artifact_location


def test_what_is_added_while_the_sender_finds_nothing_is_sent(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run comes just after the sender has found that nothing is left to send."""
    tracker.start(HEADER)
    deliver_next = tracker._delivery.deliver_next
    problems: list[str] = []
    end = threading.Thread(target=lambda: problems.extend(tracker.finish(RunStatus.FINISHED)))

    def deliver_and_end() -> bool:
        has_more = deliver_next()
        if not has_more and not tracker._closing.is_set():
            tracker.log({"last": 2.0}, 1)
            end.start()
            assert tracker._closing.wait(30.0)
        return has_more

    monkeypatch.setattr(tracker._delivery, "deliver_next", deliver_and_end)
    tracker.log({"first": 1.0}, 0)
    assert tracker._closing.wait(30.0)
    end.join()
    assert problems == []
    run = _client().get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"first": 1.0, "last": 2.0})


def test_hints_name_the_command_or_the_page_of_a_server(tracker: MlflowTracker) -> None:
    tracker.start(HEADER)
    tracker.finish(RunStatus.FINISHED)
    ((name, command),) = tracker.hints().items()
    assert name == "show it"
    assert command.endswith("dqnkit ui")
    (page,) = MlflowTracker(locate_store("http://localhost:1/")).hints().values()
    assert page == "http://localhost:1"  # no experiment is known of a server that did not answer


@pytest.mark.parametrize("status", list(RunStatus))
def test_the_final_status_is_recorded(tracker: MlflowTracker, status: RunStatus) -> None:
    tracker.start(HEADER)
    tracker.finish(status)
    assert _client().get_run(tracker.run_id).info.status == str(status)


def test_a_child_has_the_tags_of_its_parent(tracker: MlflowTracker) -> None:
    tracker.start(replace(HEADER, run_name="parent", tags={Tag.KIND: RunKind.STUDY}))
    parent = ParentRun(tracker.run_id, {Tag.STUDY: "a-study"})
    child = MlflowTracker(locate_store(), parent)
    child.start(HEADER)
    assert child.finish(RunStatus.FINISHED) == tracker.finish(RunStatus.FINISHED) == []
    tags = _client().get_run(child.run_id).data.tags
    assert tags["mlflow.parentRunId"] == tracker.run_id
    assert tags["dqnkit.study"] == "a-study"
    assert tags["mlflow.source.name"] == "dqnkit"


def test_a_run_may_be_handed_over_to_another_process(tracker: MlflowTracker) -> None:
    tracker.start(HEADER)
    tracker.log({"m": 1.0}, 0)
    run_id = tracker.run_id
    assert tracker.hand_over("elsewhere/b/n/1/1") == []
    run = _client().get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("RUNNING", {"m": 1.0})
    assert run.data.tags["dqnkit.process"] == "elsewhere/b/n/1/1"

    heir = MlflowTracker(locate_store())
    heir.start(replace(HEADER, continues=run_id, is_shared=True))
    heir.take_over()
    assert heir.finish(RunStatus.FINISHED) == []
    run = _client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["dqnkit.process"] != "elsewhere/b/n/1/1"


def test_points_that_a_repeated_run_already_has_are_left_out(tracker: MlflowTracker) -> None:
    tracker.start(HEADER)
    for step in (1, 2):
        tracker.log({"m": float(step)}, step)
    assert tracker.finish(RunStatus.KILLED) == []
    again = MlflowTracker(locate_store())
    again.start(replace(HEADER, continues=tracker.run_id, repeats=True))
    for step in (1, 2, 3):
        again.log({"m": float(step)}, step)
    assert again.finish(RunStatus.FINISHED) == []
    assert again.run_id == tracker.run_id
    history = _client().get_metric_history(tracker.run_id, "m")
    assert sorted((point.step, point.value) for point in history) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_run_that_the_store_has_lost_is_recorded_anew(tracker: MlflowTracker) -> None:
    make_store()
    tracker.start(replace(HEADER, continues="0" * 32))
    assert tracker.finish(RunStatus.FINISHED) == []
    assert tracker.run_id not in {None, "0" * 32}
    assert _client().get_run(tracker.run_id).info.run_name == "a-run"


def test_a_policy_is_an_mlflow_model_that_predicts_actions(tracker: MlflowTracker) -> None:
    import mlflow

    spec = vector_spec(4, num_actions=2)
    policy = GreedyPolicy(spec, Config(network=NetworkConfig(fc_layer_params=(5,))))
    policy.save(Path("saved"))
    tracker.start(HEADER)
    Path("config.yaml").write_text(loading.dump(loading.load()), encoding="utf-8")
    tracker.add_policy(PolicyFiles(Path("saved"), Path("config.yaml"), spec))
    assert tracker.finish(RunStatus.FINISHED) == []

    mlflow.set_tracking_uri(locate_store().uri)
    model = mlflow.pyfunc.load_model(f"runs:/{tracker.run_id}/policy")
    observations = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    expected = policy.actions(tf.constant(observations)).numpy()
    np.testing.assert_array_equal(model.predict(observations), expected)
    schema = model.metadata.signature.inputs.to_dict()
    assert schema[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 4)}
    with pytest.raises(mlflow.exceptions.MlflowException):
        model.predict(np.zeros((2, 3), np.float32))
    requirements = mlflow.pyfunc.get_model_dependencies(f"runs:/{tracker.run_id}/policy")
    assert f"tensorflow=={tf.__version__}" in Path(requirements).read_text(encoding="utf-8")


def test_a_store_that_fails_for_a_while_receives_everything_once(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._RETRY_SECONDS", (0.01,))
    tracker.start(HEADER)
    send, sent = tracker._delivery.client.log_batch, threading.Event()
    failures = iter(range(5))

    def flaky(*args: Any, **kwargs: Any) -> None:
        if next(failures, None) is not None:
            raise ConnectionError("away")
        send(*args, **kwargs)
        sent.set()

    monkeypatch.setattr(tracker._delivery.client, "log_batch", flaky)
    for step in range(50):
        tracker.log({"m": 1.0}, step)
    assert sent.wait(20)
    assert tracker.finish(RunStatus.FINISHED) == []
    history = _client().get_metric_history(tracker.run_id, "m")
    assert sorted(m.step for m in history) == list(range(50))


def test_what_a_lost_store_did_not_receive_is_reported_and_sent_later(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._RETRY_SECONDS", (0.01,))
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.5)
    tracker.start(HEADER)

    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    for method in ("log_batch", "log_artifacts", "set_terminated"):
        monkeypatch.setattr(tracker._delivery.client, method, gone)
    for step in range(50):
        tracker.log({"m": 1.0}, step)
    Path("files").mkdir()
    Path("files/a.txt").write_text("content", encoding="utf-8")
    tracker.add_artifacts(Path("files"))
    tracker.describe("the end")
    (problem,) = tracker.finish(RunStatus.FINISHED)
    assert "away; 50 metric points, files, its final status wait in" in problem
    assert "dqnkit sync` sends them" in problem
    run_id = tracker.run_id
    assert _client().get_run(run_id).info.status == "RUNNING"

    (synced,) = sync().runs
    assert synced.sent
    run = _client().get_run(run_id)
    assert (run.info.status, run.data.tags["mlflow.note.content"]) == ("FINISHED", "the end")
    assert len(_client().get_metric_history(run_id, "m")) == 50
    assert [each.path for each in _client().list_artifacts(run_id)] == ["a.txt"]
    assert not list(Path("mlruns/live").iterdir())
    assert sync().runs == ()


def test_files_without_space_for_a_copy_go_to_the_store_directly(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    tracker.start(HEADER)
    monkeypatch.setattr(tracker._outbox, "add_files", full)
    Path("files").mkdir()
    Path("files/a.txt").write_text("content", encoding="utf-8")
    tracker.add_artifacts(Path("files"))
    assert tracker.finish(RunStatus.FINISHED) == []
    assert [each.path for each in _client().list_artifacts(tracker.run_id)] == ["a.txt"]


def test_a_run_that_could_only_half_start_is_completed_later(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    send, failures = MlflowClient.log_batch, iter(range(2))

    def flaky(*args: Any, **kwargs: Any) -> None:
        if next(failures, None) is not None:
            raise ConnectionError("away")
        send(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    (warning,) = tracker.start(HEADER)
    assert "does not answer: the run is kept in" in warning
    tracker.log({"m": 1.0}, 3)
    assert tracker.finish(RunStatus.FINISHED) == []
    (run,) = _client().search_runs(
        [_client().get_experiment_by_name("an-experiment").experiment_id]
    )
    assert (run.info.run_id, run.info.status) == (tracker.run_id, "FINISHED")
    assert run.data.metrics == {"m": 1.0}
    assert (
        run.data.params.items() >= {key: str(value) for key, value in HEADER.params.items()}.items()
    )


def test_a_parent_run_must_be_in_the_store_from_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(MlflowClient, "log_batch", gone)
    tracker = MlflowTracker(locate_store().make())
    with pytest.raises(TrackingError, match="away"):
        tracker.start(replace(HEADER, tags={Tag.KIND: RunKind.STUDY}))
    assert tracker.finish(RunStatus.FAILED) == []
    (run,) = _client().search_runs(
        [_client().get_experiment_by_name("an-experiment").experiment_id]
    )
    assert run.info.status == "FAILED"


def test_passwords_are_in_no_hint() -> None:
    for uri in ("http://me:secret@host:5000", "postgresql://me:secret@host/db"):
        assert "secret" not in str(MlflowTracker(locate_store(uri)).hints())


def test_a_run_whose_process_was_killed_is_ended_by_the_next_one(
    tracker: MlflowTracker,
) -> None:
    victim = FORKED.Process(target=start_and_die)
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    client = _client()
    run_id = Path("run_id").read_text(encoding="utf-8")
    assert client.get_run(run_id).info.status == "RUNNING"
    alive = MlflowTracker(locate_store().make())
    alive.start(HEADER)
    tracker.start(HEADER)
    assert client.get_run(run_id).info.status == "KILLED"
    assert client.get_run(alive.run_id).info.status == "RUNNING"
    for each in (alive, tracker):
        each.finish(RunStatus.FINISHED)


def test_a_server_that_does_not_answer_costs_neither_the_run_nor_its_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("dqnkit.tracking.mlflow_tracker._PATIENCE_SECONDS", 0.5)
    uri = "http://user:secret@127.0.0.1:9"
    tracker = MlflowTracker(locate_store(uri))
    (warning,) = tracker.start(HEADER)
    assert warning.startswith("the tracking store http://127.0.0.1:9 does not answer")
    tracker.log({"m": 1.0}, 3)
    (problem,) = tracker.finish(RunStatus.FINISHED)
    assert "the run itself, 1 metric points, its final status wait in" in problem
    assert "secret" not in warning + problem
    assert not any("secret" in path.read_text() for path in Path("mlruns").rglob("*.*"))
    (left,) = sync(uri).runs
    assert not left.sent
    assert "Is it running?" in left.why


def test_an_error_of_the_user_is_reported_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import UNAUTHENTICATED

    def refused(*_: Any, **__: Any) -> None:
        raise MlflowException("who are you?", UNAUTHENTICATED)

    monkeypatch.setattr(MlflowClient, "search_experiments", refused)
    tracker = MlflowTracker(locate_store().make())
    with pytest.raises(TrackingError, match="who are you") as caught:
        tracker.start(HEADER)
    assert "or train without a record: tracking.enabled=false" in str(caught.value)
    assert not list(Path("mlruns/live").iterdir())


def test_a_deleted_experiment_names_the_command_that_restores_it(tracker: MlflowTracker) -> None:
    tracker.start(HEADER)
    tracker.finish(RunStatus.FINISHED)
    _client().delete_experiment(tracker._delivery.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        MlflowTracker(locate_store().make()).start(HEADER)


def test_four_processes_that_start_on_an_empty_store_all_record_their_run() -> None:
    processes = [FORKED.Process(target=record_one_of_four) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    runs = _client().search_runs([_client().get_experiment_by_name("an-experiment").experiment_id])
    assert [(run.info.status, run.data.metrics["m"]) for run in runs] == [("FINISHED", 1.0)] * 4
