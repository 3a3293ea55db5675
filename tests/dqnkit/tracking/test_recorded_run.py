from __future__ import annotations

import json
from dataclasses import replace

from dqnkit.tracking.recorded_run import RecordedRun

RUN = RecordedRun(
    id="0123456789abcdef",
    name="a-run",
    experiment="cartpole",
    status="FINISHED",
    started=100.0,
    ended=160.5,
    params={"env.id": "CartPole-v1"},
    metrics={"final/return_iqm": 480.0},
    tags={"dqnkit.kind": "training", "mlflow.user": "me"},
    artifact_uri="file:///a/b",
)


def test_what_is_shown_of_a_run_is_read_from_its_record() -> None:
    assert RUN.label == "a-run (01234567)"
    assert (RUN.env, RUN.score, RUN.seconds) == ("CartPole-v1", 480.0, 60.5)


def test_a_run_that_has_just_begun_has_neither_score_nor_duration() -> None:
    begun = replace(RUN, status="RUNNING", ended=None, metrics={}, params={})
    assert (begun.env, begun.score, begun.seconds) == ("", None, None)


def test_the_json_document_leaves_out_what_belongs_to_mlflow() -> None:
    document = json.loads(json.dumps(RUN.as_dict()))
    assert document["tags"] == {"dqnkit.kind": "training"}
    assert "artifact_uri" not in document
    assert document["ended"] == 160.5
