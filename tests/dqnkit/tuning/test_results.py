from __future__ import annotations

import json
from typing import Any

from dqnkit.tuning.results import TuneResult
from dqnkit.tuning.standing import Standing, TrialScore
from tests.dqnkit.tuning.helpers import make_confirmed, make_definition


def _result(**changes: Any) -> TuneResult:
    best = TrialScore(3, 120.0, {"agent.gamma": 0.9})
    fields = {
        "study": "mine",
        "experiment": "searched",
        "env_id": "CartPole-v1",
        "run_id": None,
        "standing": Standing(5, 3, 2, 1, best),
        "confirmed": (make_confirmed(1, 100.0, [90.0, 95.0]),),
        "winner": make_definition().config,
        "model": None,
        "fresh_seed": 6,
        "seconds": 10.0,
        "search_seconds": 7.0,
    }
    return TuneResult(**{**fields, **changes})


def test_confirmation_may_overturn_the_search() -> None:
    assert _result().was_overturned
    assert not _result(confirmed=(make_confirmed(3, 120.0, [90.0]),)).was_overturned
    assert not _result(confirmed=()).was_overturned


def test_the_json_document() -> None:
    document = json.loads(json.dumps(_result().as_dict()))
    assert document["trials"] == {"total": 5, "complete": 3, "pruned": 2, "failed": 1}
    assert document["best"] == {"number": 3, "value": 120.0, "values": {"agent.gamma": 0.9}}
    assert [each["trial"] for each in document["confirmed"]] == [1]
    assert document["overturned"] is True
    assert document["winner"]["name"] == "searched"
    assert document["fresh_seed"] == 6
    assert document["hints"] == {}
    assert document["problems"] == []


def test_a_search_without_a_complete_trial_has_no_best() -> None:
    result = _result(standing=Standing(5, 0, 5, 0, None), confirmed=())
    assert result.as_dict()["best"] is None
    assert not result.was_overturned
