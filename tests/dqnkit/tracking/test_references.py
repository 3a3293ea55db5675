"""References of every form, to runs of every kind in one store."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dqnkit.config import loading
from dqnkit.errors import ConfigError, DqnkitError, PolicyError, TrackingError
from dqnkit.events import RunStatus
from dqnkit.processes import identity
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.references import find_policy, find_run
from dqnkit.tracking.store import RunFilter, RunStore
from tests.runs import record

ACROBOT = loading.default_config("acrobot", ["env.id=Acrobot-v1", "network.fc_layer_params=[]"])


SLASH = "a/b 100% 'of' \"it\""


class Recorded(NamedTuple):
    reader: RunStore
    uri: str
    ids: dict[str, str]


def test_a_read_only_store_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = record(name="a-run", finals=[1.0])
    record(name="died", status=None)  # reading would end it, if the store could be written
    Path("mlruns/.lock").unlink()
    Path("mlruns/.lock").mkdir()  # as a lock that cannot be opened
    monkeypatch.setattr(identity, "is_dead", lambda _: True)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("mlflow.MlflowClient.set_tag", refuse)
    assert find_run(RunStore(locate_store()), "a-run").id == run_id


@pytest.mark.parametrize("folder", ["50%", "a%20b", "with space é"])
def test_a_store_may_be_in_any_folder(folder: str) -> None:
    record(name="a-run", tracking_uri=folder)
    assert [run.name for run in RunStore(locate_store(folder)).runs()] == ["a-run"]
    assert (Path(folder) / "mlflow.db").is_file()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    uri = str(tmp_path_factory.mktemp("references") / "mlruns")
    here: dict[str, Any] = {"tracking_uri": uri}
    ids = {
        "good": record(name="good", finals=[400.0, 500.0], with_policy=True, **here),
        "better": record(name="better", finals=[500.0, 500.0], with_policy=True, **here),
        "failed": record(name="failed", status=RunStatus.FAILED, **here),
        "twin-1": record(name="twin", finals=[9.0], **here),
        "twin-2": record(name="twin", finals=[8.0], **here),
        "trial": record(name="it's", finals=[1.0], tags={"dqnkit.study": "a-study"}, **here),
        "slash": record(name=SLASH, finals=[1.0], **here),
        "swing": record(ACROBOT, name="swing", finals=[-80.0], **here),
    }
    reader = RunStore(locate_store(uri))
    client = reader.client
    client.create_registered_model("cartpole")
    for number, run_id in enumerate((ids["good"], ids["better"])):
        client.create_model_version("cartpole", f"runs:/{run_id}/policy", run_id)
        client.set_registered_model_alias("cartpole", "champion", number + 1)
    # References find neither foreign runs nor comparisons.
    experiment = reader.experiment_ids("cartpole")[0]
    client.create_run(experiment, run_name="foreign")
    client.create_run(experiment, run_name="compared", tags={"dqnkit.kind": "comparison"})
    return Recorded(reader, uri, ids)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("good", "good"),
        ("it's", "trial"),
        (SLASH, "slash"),
        ("latest", "swing"),
        ("latest:cartpole", "slash"),
        ("best:cartpole", "better"),
        ("best:acrobot", "swing"),
        ("models:/cartpole@champion", "better"),
        ("models:/cartpole/1", "good"),
    ],
)
def test_each_form_finds_its_run(recorded: Recorded, reference: str, name: str) -> None:
    assert find_run(recorded.reader, reference).id == recorded.ids[name]


def test_ids_and_their_prefixes_find_their_run(recorded: Recorded) -> None:
    for run_id in recorded.ids.values():
        assert find_run(recorded.reader, run_id).id == run_id
        assert find_run(recorded.reader, run_id[:12]).id == run_id


def test_a_prefix_of_several_ids_lists_them() -> None:
    by_first: dict[str, list[str]] = {}
    while not by_first or max(map(len, by_first.values())) == 1:  # at most 17 runs
        run_id = record(name=f"run-{len(by_first)}")
        by_first.setdefault(run_id[0], []).append(run_id)
    first = max(by_first, key=lambda digit: len(by_first[digit]))
    with pytest.raises(ConfigError, match=f"'{first}' matches 2 runs: .*give more of the id"):
        find_run(RunStore(locate_store()), first)


def test_a_name_that_is_the_prefix_of_an_id_is_ambiguous() -> None:
    run_id = record(name="a-run")
    record(name=run_id[:8])
    with pytest.raises(ConfigError, match=f"'{run_id[:8]}' matches 2 runs"):
        find_run(RunStore(locate_store()), run_id[:8])


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("twin", ["'twin' matches 2 runs", "give more of the id"]),
        ("goood", ["no run 'goood'", "nearest: good ("]),
        ("betterer", ["no run 'betterer'", "nearest: better ("]),
        ("zzz", ["no run 'zzz'", "the latest: swing ("]),
        ("foreign", ["no run 'foreign'"]),
        ("compared", ["no run 'compared'"]),
        ("fffffffffffffffffffffffffffffff0", ["no run 'fff"]),
        ("best", ["Acrobot-v1, CartPole-v1", "best:acrobot or best:cartpole"]),
        ("best:nothing", ["no experiment 'nothing'", "acrobot, cartpole"]),
        ("latest:nothing", ["no experiment 'nothing'"]),
        ("models:/cartpole@loser", ["loser", "registered models: cartpole"]),
        ("models:/nothing@champion", ["nothing", "registered models: cartpole"]),
        ("models:/cartpole", ["models:/NAME@ALIAS"]),
        ("both'\"quotes", ["no run 'both"]),
        ("", ["no run ''"]),
    ],
)
def test_a_reference_to_no_run_or_several_is_explained(
    recorded: Recorded, reference: str, parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        find_run(recorded.reader, reference)
    for part in parts:
        assert part in str(caught.value)


def test_a_deleted_run_names_the_command_that_restores_it(recorded: Recorded) -> None:
    run_id = record(name="deleted", tracking_uri=recorded.uri)
    recorded.reader.client.delete_run(run_id)
    with pytest.raises(ConfigError, match=f"mlflow runs restore --run-id {run_id}"):
        find_run(recorded.reader, run_id)
    with pytest.raises(ConfigError, match="no run 'deleted'"):
        find_run(recorded.reader, "deleted")


@pytest.mark.parametrize("reference", ["better", "models:/cartpole@champion", "models:/cartpole/2"])
def test_a_policy_is_fetched_with_its_configuration(recorded: Recorded, reference: str) -> None:
    source = find_policy(recorded.reader, reference, Path.cwd())
    assert source.run is not None
    assert source.run.id == recorded.ids["better"]
    assert source.folder.config.env.id == "CartPole-v1"
    assert (source.folder.saved_model / "saved_model.pb").is_file()


def test_a_folder_on_disk_is_a_policy_wherever_it_is(recorded: Recorded) -> None:
    fetched = find_policy(recorded.reader, "better", Path.cwd()).folder.path
    shutil.copytree(fetched, "moved/policy")
    empty = RunStore(locate_store("nowhere"))
    for path in ("./moved/policy", "moved/policy", "moved/", str(Path.cwd() / "moved")):
        source = find_policy(empty, path, Path.cwd())
        assert source.run is None
        assert source.folder.config == loading.load(str(fetched / "artifacts/config.yaml"))
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("missing", ["artifacts/config.yaml", "artifacts/saved_model"])
def test_an_incomplete_folder_names_the_missing_file(recorded: Recorded, missing: str) -> None:
    fetched = find_policy(recorded.reader, "better", Path.cwd()).folder.path
    shutil.copytree(fetched, "torn")
    if (Path("torn") / missing).is_dir():
        shutil.rmtree(Path("torn") / missing)
    else:
        (Path("torn") / missing).unlink()
    with pytest.raises(
        PolicyError, match=f"is not a complete policy of dqnkit: {missing}.*is missing"
    ):
        find_policy(recorded.reader, "./torn", Path.cwd())


def test_paths_without_a_policy_are_explained(recorded: Recorded) -> None:
    Path("empty").mkdir()
    with pytest.raises(ConfigError, match="is not a policy of dqnkit"):
        find_policy(recorded.reader, "./empty", Path.cwd())
    with pytest.raises(ConfigError, match="no run 'some/where'"):
        find_policy(recorded.reader, "some/where", Path.cwd())
    with pytest.raises(ConfigError, match="no run 'aaa"):
        find_policy(recorded.reader, "a" * 300, Path.cwd())
    with pytest.raises(ConfigError, match="no such folder"):
        find_policy(recorded.reader, "./" + "a" * 300, Path.cwd())
    with pytest.raises(ConfigError, match="no such folder"):
        find_policy(recorded.reader, "./nothing", Path.cwd())
    with pytest.raises(ConfigError, match="no such folder"):
        find_policy(recorded.reader, "../../../../etc/passwd", Path.cwd())


def test_a_run_without_a_policy_names_the_reason_and_runs_that_have_one(recorded: Recorded) -> None:
    with pytest.raises(ConfigError, match=r"failed \(.*is FAILED and has no policy.*better"):
        find_policy(recorded.reader, "failed", Path.cwd())


def test_a_lost_artifact_is_an_error() -> None:
    record(name="torn", with_policy=True)
    reader = RunStore(locate_store())
    (folder,) = Path("mlruns/artifacts").glob("*/*/artifacts/policy")
    (folder / "artifacts/saved_model/saved_model.pb").unlink()
    with pytest.raises(PolicyError, match=r"saved_model\.pb is missing"):
        find_policy(reader, "torn", Path.cwd())
    run = find_run(reader, "torn")
    with pytest.raises(TrackingError, match=r"'nothing' of the run torn"):
        reader.fetch(run, "nothing", Path.cwd())


@pytest.mark.parametrize("reference", ["latest", "best", "best:x", "abc", "a-name", "models:/a@b"])
def test_an_empty_store_is_not_created_by_a_search(reference: str) -> None:
    reader = RunStore(locate_store())
    with pytest.raises(ConfigError) as caught:
        find_run(reader, reference)
    assert "no runs" in str(caught.value) or "no experiment" in str(caught.value)
    assert not Path("mlruns").exists()


def test_a_server_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = RunStore(locate_store("http://user:secret@127.0.0.1:9"))
    with pytest.raises(DqnkitError, match=r"http://127\.0\.0\.1:9 cannot be used") as caught:
        find_run(away, "latest")
    assert "secret" not in str(caught.value)


def test_filters_restrict_runs(recorded: Recorded) -> None:
    def names(**chosen: Any) -> list[str]:
        return [run.name for run in recorded.reader.runs(RunFilter(**chosen))]

    assert names() == ["swing", SLASH, "it's", "twin", "twin", "failed", "better", "good"]
    assert names(experiment="acrobot") == ["swing"]
    assert names(status="FAILED") == ["failed"]
    assert names(study="a-study") == ["it's"]
    assert names(study="a-study", status="FAILED") == []
    assert [run.name for run in recorded.reader.runs(limit=2)] == ["swing", SLASH]


def test_more_runs_than_a_page_are_all_returned(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqnkit.tracking.store._PAGE", 2)
    assert len(recorded.reader.runs()) == len(recorded.ids)
    assert len(recorded.reader.runs(limit=5)) == 5


def test_additions_replace_the_values_of_a_run() -> None:
    record(finals=[10.0, 20.0], curve={0: [1.0]})
    reader = RunStore(locate_store())
    run = find_run(reader, "latest")
    assert run.score == 15.0
    files = Path("files")
    (files / "final").mkdir(parents=True)
    (files / "final/x.txt").write_text("x", encoding="utf-8")
    problems = reader.add(run, metrics={"final/return_iqm": 99.0}, files=files, note="**New.**")
    assert problems == []
    again = find_run(reader, "latest")
    assert (again.score, again.status) == (99.0, "FINISHED")
    assert again.tags["mlflow.note.content"] == "**New.**"
    assert reader.artifacts(again) == {"evaluation.json", "final"}
    assert reader.fetch(again, "final/x.txt", Path.cwd()).read_text(encoding="utf-8") == "x"
    steps = [m.step for m in reader.client.get_metric_history(run.id, "final/return_iqm")]
    assert steps == [5_000, 5_000]


def test_adding_to_a_deleted_run_is_a_problem_and_no_exception() -> None:
    record(finals=[10.0])
    reader = RunStore(locate_store())
    run = find_run(reader, "latest")
    reader.client.delete_run(run.id)
    (problem,) = reader.add(run, metrics={"final/return_iqm": 99.0})
    assert "could not be added to" in problem


def test_a_run_that_ends_while_it_is_examined_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = record(name="ending", status=None)
    ending = RunStore(locate_store()).client

    def ends_meanwhile(process: str) -> bool:
        ending.set_terminated(run_id, "FINISHED")
        return True

    monkeypatch.setattr(identity, "is_dead", ends_meanwhile)
    (run,) = RunStore(locate_store()).runs()
    assert run.status == "FINISHED"
    assert "killed" not in run.tags["mlflow.note.content"]


def test_a_killed_run_ends_at_its_last_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    record(name="died", status=None, curve={0: [1.0]})
    time.sleep(1.0)
    monkeypatch.setattr(identity, "is_dead", lambda _: True)
    (run,) = RunStore(locate_store()).runs()
    assert run.status == "KILLED"
    assert "was killed" in run.tags["mlflow.note.content"]
    assert run.seconds is not None
    assert run.seconds < 0.9
