from __future__ import annotations

import optuna
import pytest

from dqnkit import __version__
from dqnkit.errors import ArgumentError
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.definition import StudyDefinition, is_defined, list_differences
from tests.dqnkit.tuning.helpers import make_definition

SPACE = "search.network.fc_layer_params={type: layers, max_layers: 2}"


def _study(name: str = "defined") -> optuna.Study:
    return optuna.create_study(storage=optuna.storages.InMemoryStorage(), study_name=name)


def test_a_definition_is_loaded_as_it_was_saved() -> None:
    study = _study()
    definition = make_definition(SPACE, "agent.kind=c51", seeds_per_trial=3, reports_seeds=True)
    assert not is_defined(study)
    definition.save(study)
    assert is_defined(study)
    assert StudyDefinition.load(study) == definition
    assert study.user_attrs[StudyAttr.VERSION] == __version__


def test_the_space_is_stored_last(monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study()
    keys: list[str] = []
    monkeypatch.setattr(study, "set_user_attr", lambda key, _: keys.append(key))
    make_definition().save(study)
    assert keys[-1] == StudyAttr.SPACE
    assert len(keys) == len(set(keys)) == 6


def test_a_study_without_a_definition_is_not_dqnkits() -> None:
    with pytest.raises(ArgumentError, match="study=defined: dqnkit did not make this study"):
        StudyDefinition.load(_study())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (StudyAttr.SPACE, {"agent.gamma": {"type": "gaussian"}}),
        (StudyAttr.EXPERIMENT, {"agent": {"future_key": 1}}),
    ],
)
def test_a_definition_of_an_unreadable_version_is_refused(key: str, value: object) -> None:
    study = _study()
    make_definition().save(study)
    study.set_user_attr(key, value)
    study.set_user_attr(StudyAttr.VERSION, "99.0")
    with pytest.raises(ArgumentError, match=r"dqnkit 99\.0 made this study.*cannot read"):
        StudyDefinition.load(study)


@pytest.mark.parametrize(
    ("assignments", "difference"),
    [
        (["training.seed=1"], "training.seed: 0 in the study, 1 here"),
        ([SPACE], "search.optimizer.learning_rate: {"),
        (["description=Other words."], None),
        (["tracking.enabled=false"], None),
    ],
)
def test_a_definition_matches_if_trials_have_the_same_values(
    assignments: list[str], difference: str | None
) -> None:
    study = _study()
    make_definition().save(study)
    other = make_definition(*assignments)
    if difference is None:
        other.check_matches(study)
        return
    with pytest.raises(ArgumentError) as caught:
        other.check_matches(study)
    assert difference in caught.value.problem


def test_seeds_and_reports_are_part_of_the_definition() -> None:
    study = _study()
    make_definition().save(study)
    with pytest.raises(ArgumentError, match="`seeds_per_trial`: 1 in the study, 2 here"):
        make_definition(seeds_per_trial=2).check_matches(study)
    with pytest.raises(ArgumentError, match=r'"after each seed \(wilcoxon\)" here'):
        make_definition(reports_seeds=True).check_matches(study)


def test_differences_name_key_and_both_values() -> None:
    stored = {"agent.gamma": 0.99, "search.a": {"type": "int", "low": 1, "step": None}, "same": 1}
    given = {"agent.gamma": 0.9, "same": 1}
    assert list_differences(stored, given) == [
        "agent.gamma: 0.99 in the study, 0.9 here",
        'search.a: {"type": "int", "low": 1} in the study, nothing here',
    ]
