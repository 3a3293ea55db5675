from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.errors import ConfigError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.names import Metric
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.store import RunFilter, RunStore, highest_first, with_metric
from tests.processes import client
from tests.runs import record

POLE = loading.default_config("pole", ["network.fc_layer_params=[]"])


def _store(uri: str = "auto") -> RunStore:
    return RunStore(locate_store(uri))


def _names(store: RunStore, *arguments: RunFilter, **named: str) -> list[str]:
    return [run.name for run in store.runs(*arguments, **named)]


def test_a_run_is_read_as_it_was_recorded() -> None:
    run_id = record(POLE, finals=[400.0, 500.0], tags={"team": "blue"})
    run = _store().run(run_id)
    assert run is not None
    assert (run.id, run.name, run.experiment, run.status) == (run_id, "a-run", "pole", "FINISHED")
    assert run.label == f"a-run ({run_id[:8]})"
    assert run.env == run.params["env.id"] == "CartPole-v1"
    assert run.score == run.metrics["final/return_iqm"] == 450.0
    assert run.ended is not None
    assert run.seconds == run.ended - run.started >= 0
    document = run.as_dict()
    assert document["tags"]["team"] == "blue"
    assert not [key for key in document["tags"] if key.startswith("mlflow.")]
    assert "artifact_uri" not in document


def test_a_running_run_has_neither_score_nor_duration() -> None:
    record(status=None)
    (run,) = _store().runs()
    assert (run.status, run.score, run.seconds, run.ended) == ("RUNNING", None, None, None)


def test_an_empty_store_is_read_and_not_created() -> None:
    store = _store()
    assert store.runs() == []
    assert store.run("0" * 32) is None
    assert store.experiments == {}
    assert store.experiment_ids(None) == []
    with pytest.raises(ConfigError, match=r"no experiment 'pole' .*it holds: none"):
        store.runs(RunFilter(experiment="pole"))
    assert not Path("mlruns").exists()


def test_experiments_are_known_by_name() -> None:
    record(POLE)
    record()
    store = _store()
    assert sorted(store.experiments.values()) == ["Default", "cartpole", "pole"]
    (pole,) = store.experiment_ids("pole")
    assert store.experiments[pole] == "pole"
    assert len(store.experiment_ids(None)) == 3
    with pytest.raises(ConfigError, match="it holds: cartpole, pole"):
        store.experiment_ids("pol")


def test_runs_are_chosen_and_ordered() -> None:
    for name, score in (("first", 3.0), ("second", 1.0), ("third", 2.0)):
        record(name=name, finals=[score])
    record(name="failed", status=RunStatus.FAILED, tags={"dqnkit.study": "it's"})
    store = _store()
    assert _names(store) == ["failed", "third", "second", "first"]
    assert _names(store, RunFilter(status="FAILED")) == ["failed"]
    assert _names(store, RunFilter(study="it's")) == ["failed"]
    scored = with_metric(Metric.FINAL_IQM)
    assert _names(store, where=scored) == ["third", "second", "first"]
    order = highest_first(Metric.FINAL_IQM)
    assert _names(store, where=scored, order_by=order) == ["first", "third", "second"]


def test_runs_that_dqnkit_did_not_train_are_found_by_id_only() -> None:
    record()
    store = _store()
    foreign = client().create_run("0", run_name="foreign").info.run_id
    assert _names(store) == ["a-run"]
    found = store.run(foreign)
    assert found is not None
    assert found.name == "foreign"
    assert found.env == ""


def test_the_history_of_a_metric_has_the_last_value_of_each_step() -> None:
    from mlflow.entities import Metric as Point

    run_id = record(curve={20: [1.0, 3.0], 10: [1.0]})
    client().log_batch(run_id, [Point("eval/return_mean", 9.0, 2**42, 10)])
    store = _store()
    (run,) = store.runs()
    assert store.history(run, Metric.EVAL_MEAN) == [(10, 9.0), (20, 2.0)]
    assert store.history(run, "nothing") == []


# -- Artifacts


def _recorded(uri: str = "auto") -> tuple[RunStore, RecordedRun]:
    record(finals=[1.0], curve={0: [1.0]}, tracking_uri=uri)
    store = _store(uri)
    (run,) = store.runs()
    return store, run


def test_artifacts_of_an_embedded_store_are_read_where_they_are() -> None:
    store, run = _recorded()
    assert store.artifacts(run) == {"evaluation.json"}
    path = store.fetch(run, "evaluation.json", Path("scratch"))
    assert path == store.local_path(run, "evaluation.json")
    assert path.is_file()
    assert store.local_path(run, "nothing") is None
    with pytest.raises(TrackingError, match=r"'nothing' of the run a-run \(.*cannot be read"):
        store.fetch(run, "nothing", Path("scratch"))


def test_a_copied_store_reads_its_own_artifacts() -> None:
    _recorded()
    shutil.copytree("mlruns", "copy")
    store = _store("copy")
    (run,) = store.runs()
    path = store.local_path(run, "evaluation.json")
    assert path is not None
    assert path.is_relative_to(Path("copy").resolve())


def test_a_store_that_was_moved_without_its_artifacts_is_an_error() -> None:
    _recorded()
    Path("moved").mkdir()
    Path("mlruns/mlflow.db").rename("moved/mlflow.db")
    shutil.rmtree("mlruns")
    store = _store("moved")
    (run,) = store.runs()
    with pytest.raises(TrackingError, match="was moved without them"):
        store.artifacts(run)


def test_a_run_without_artifacts_has_none() -> None:
    store, _ = _recorded()
    record(name="another")
    (run,) = store.runs(limit=1)
    assert run.name == "another"
    assert store.artifacts(run) == set()


def test_artifacts_of_a_server_are_downloaded() -> None:
    """A server names artifacts by addresses of its own."""
    store, run = _recorded()
    remote = replace(run, artifact_uri="mlflow-artifacts:/1/2/artifacts", experiment="elsewhere")
    assert store._folder(remote) is None
    assert store.local_path(remote, "evaluation.json") is None
    assert store.artifacts(remote) == {"evaluation.json"}
    Path("scratch").mkdir()
    path = store.fetch(remote, "evaluation.json", Path("scratch"))
    assert path.name == "evaluation.json"
    assert path.is_file()


# -- Additions


def test_additions_go_to_the_step_of_the_final_score() -> None:
    store, run = _recorded()
    (Path("files") / "final").mkdir(parents=True)
    (Path("files") / "final" / "x.txt").write_text("x", encoding="utf-8")
    metrics = {"final/random/return_iqm": 2.0}
    assert store.add(run, metrics=metrics, files=Path("files"), note="**New.**") == []
    assert store.history(run, "final/random/return_iqm") == [(5_000, 2.0)]
    assert store.artifacts(run) == {"evaluation.json", "final"}
    again = store.run(run.id)
    assert again is not None
    assert again.tags["mlflow.note.content"] == "**New.**"
    assert again.status == "FINISHED"
    assert store.add(run) == []


def test_a_failed_addition_is_described_and_not_raised() -> None:
    store, run = _recorded()
    store.client.delete_run(run.id)
    (problem,) = store.add(run, note="**New.**")
    assert problem.startswith(f"the run a-run ({run.id[:8]}) could not be added to: ")
