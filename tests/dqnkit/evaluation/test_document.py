from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dqnkit.evaluation.document import BaselineEpisodes, EvaluationDocument, FinalEpisodes
from dqnkit.evaluation.episodes import Episodes, Evaluation

FIRST = Evaluation(returns=(1.0, 2.5), lengths=(3, 4), iteration=0, env_steps=100)
BEST = Evaluation(returns=(7.0, 9.0), lengths=(5, 6), iteration=500, env_steps=600)
FINAL = FinalEpisodes(
    episodes=Episodes(returns=(8.0, 8.5, 9.0), lengths=(7, 7, 7)), iteration=500, env_steps=600
)
AFTER_TRAINING = EvaluationDocument(evaluations=(FIRST, BEST), best=BEST, final=FINAL)
EVALUATED_LATER = replace(
    AFTER_TRAINING,
    final=replace(FINAL, seconds=0.5, seed=3),
    random=BaselineEpisodes(episodes=Episodes(returns=(0.5, -1.0), lengths=(1, 2)), seconds=0.25),
)


def test_file_after_training() -> None:
    """The keys and their order are those of every version, byte by byte."""
    best = {"iteration": 500, "env_steps": 600, "returns": [7.0, 9.0], "lengths": [5, 6]}
    first = {"iteration": 0, "env_steps": 100, "returns": [1.0, 2.5], "lengths": [3, 4]}
    final = {
        "iteration": 500,
        "env_steps": 600,
        "returns": [8.0, 8.5, 9.0],
        "lengths": [7, 7, 7],
        "iqm_interval": list(FINAL.episodes.interval),
    }
    expected = {"evaluations": [first, best], "best": best, "final": final}
    assert AFTER_TRAINING.to_json() == json.dumps(expected)


def test_file_after_a_later_evaluation() -> None:
    document = json.loads(EVALUATED_LATER.to_json())
    assert list(document) == ["evaluations", "best", "final", "random"]
    expected = ["iteration", "env_steps", "returns", "lengths", "iqm_interval", "seconds", "seed"]
    assert list(document["final"]) == expected
    assert (document["final"]["seconds"], document["final"]["seed"]) == (0.5, 3)
    assert list(document["random"]) == ["returns", "lengths", "iqm_interval", "seconds"]
    assert document["random"]["returns"] == [0.5, -1.0]


def test_file_of_an_evaluation_whose_run_has_no_document() -> None:
    final = FinalEpisodes(episodes=Episodes(returns=(1.0,), lengths=(2,)), seconds=0.5, seed=0)
    document = json.loads(EvaluationDocument(final=final).to_json())
    assert list(document) == ["final"]
    assert document["final"] == {
        "iteration": None,
        "env_steps": None,
        "returns": [1.0],
        "lengths": [2],
        "seconds": 0.5,
        "seed": 0,
    }


@pytest.mark.parametrize(
    "document",
    [
        EvaluationDocument(),
        AFTER_TRAINING,
        EVALUATED_LATER,
        EvaluationDocument(evaluations=(FIRST,)),
        EvaluationDocument(final=FinalEpisodes(episodes=Episodes(returns=(), lengths=()))),
    ],
)
def test_document_survives_writing_and_reading(document: EvaluationDocument) -> None:
    assert EvaluationDocument.from_json(document.to_json()) == document


@pytest.mark.parametrize(
    "contents",
    [
        {},
        {"evaluations": [], "best": None, "final": None, "random": None},
        {"evaluations": None, "final": {}},
        {"something": "of a later version"},
    ],
)
def test_missing_parts_are_empty(contents: dict[str, Any]) -> None:
    assert EvaluationDocument.from_json(json.dumps(contents)) == EvaluationDocument()


def test_optional_keys() -> None:
    contents = {
        "evaluations": [{"env_steps": 500, "returns": [1, 2]}],
        "final": {"returns": [3.0]},
        "random": {"returns": [4.0], "lengths": [5]},
    }
    document = EvaluationDocument.from_json(json.dumps(contents))
    (evaluation,) = document.evaluations
    assert evaluation == Evaluation(returns=(1.0, 2.0), lengths=(), iteration=0, env_steps=500)
    assert document.final == FinalEpisodes(episodes=Episodes(returns=(3.0,), lengths=()))
    expected = BaselineEpisodes(episodes=Episodes(returns=(4.0,), lengths=(5,)))
    assert document.random == expected
    counters = EvaluationDocument.from_json('{"final": {"iteration": 9, "env_steps": 10}}').final
    assert counters == FinalEpisodes(
        episodes=Episodes(returns=(), lengths=()), iteration=9, env_steps=10
    )


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_torn_file_is_a_value_error(length: int) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        EvaluationDocument.from_json(AFTER_TRAINING.to_json()[:length])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        '{"evaluations": 3}',
        '{"evaluations": [[1.0]]}',
        '{"evaluations": [{"returns": [1.0]}]}',
        '{"evaluations": [{"env_steps": 5}]}',
        '{"evaluations": [{"env_steps": 5, "returns": [null]}]}',
        '{"best": {"returns": [1.0], "lengths": [1]}}',
        '{"final": [1.0]}',
        '{"final": {"returns": 1.0}}',
    ],
)
def test_other_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"not that of evaluation\.json"):
        EvaluationDocument.from_json(text)


def test_nan_returns_are_kept() -> None:
    evaluation = replace(FIRST, returns=(float("nan"), float("inf")))
    text = EvaluationDocument(evaluations=(evaluation,)).to_json()
    (read,) = EvaluationDocument.from_json(text).evaluations
    assert read.returns[0] != read.returns[0]
    assert read.returns[1] == float("inf")
