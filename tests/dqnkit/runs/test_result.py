from __future__ import annotations

import json

from tests.dqnkit.runs.results import RESULT


def test_a_result_is_a_json_document() -> None:
    document = json.loads(json.dumps(RESULT.as_dict()))
    assert document["status"] == "FINISHED"
    assert document["iterations"] == 20
    assert document["checkpoint_megabytes"] == 1.25
    assert document["hints"] == {"show it": "dqnkit ui"}
    assert document["problems"] == []


def test_the_document_has_statistics_in_place_of_episodes() -> None:
    document = RESULT.as_dict()
    assert "evaluations" not in document
    assert "returns" not in str(document)
    assert (document["best"]["env_steps"], document["best"]["mean"]) == (30, 6.0)
    assert (document["last"]["env_steps"], document["last"]["std"]) == (40, 0.0)
    for name, episodes in (("final", RESULT.final), ("late", RESULT.late)):
        assert document[name]["n"] == len(episodes.returns)
        assert (document[name]["ci_low"], document[name]["ci_high"]) == episodes.interval
    # No interval where the episodes were selected by their returns.
    assert "ci_low" not in document["best"]
