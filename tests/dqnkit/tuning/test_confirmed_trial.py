from __future__ import annotations

from dqnkit.tuning.confirmed_trial import FRESH_SEEDS, ConfirmedTrial, fresh_seeds, is_overturned
from dqnkit.tuning.standing import TrialScore
from dqnkit.workers.seed_group import aggregate
from tests.dqnkit.tuning.helpers import make_confirmed, make_definition, make_seed_result


def _confirmed(finals: dict[int, float]) -> ConfirmedTrial:
    results = tuple(make_seed_result(seed, 1.0, final) for seed, final in finals.items())
    config = make_definition().config
    return ConfirmedTrial(TrialScore(0, 1.0, {}), config, results, aggregate(results))


def test_the_champion_has_the_best_policy() -> None:
    assert _confirmed({1: 5.0, 2: 9.0, 3: 7.0}).champion.seed == 2


def test_of_equal_policies_the_lowest_seed_is_the_champion() -> None:
    assert _confirmed({3: 9.0, 1: 9.0, 2: 5.0}).champion.seed == 1


def test_the_score_is_the_statistic_of_a_trials_value() -> None:
    confirmed = make_confirmed(2, 50.0, [10.0, 20.0, 30.0, 40.0])
    assert confirmed.score.value == 25.0
    assert confirmed.score.low <= 25.0 <= confirmed.score.high


def test_the_json_document() -> None:
    document = make_confirmed(2, 50.0, [10.0, 20.0]).as_dict()
    assert document["trial"] == 2
    assert document["search_value"] == 50.0
    assert document["confirmed"]["value"] == 15.0
    assert document["n"] == 2
    assert document["seeds"] == {"1": 10.0, "2": 20.0}
    assert document["values"] == {"optimizer.learning_rate": 0.003}


def test_fresh_seeds_follow_those_of_the_search() -> None:
    config = make_definition("training.seed=7").config
    assert fresh_seeds(config, 1) == tuple(range(8, 8 + FRESH_SEEDS))
    assert fresh_seeds(config, 3)[0] == 10


def test_an_order_is_overturned_if_another_trial_is_first() -> None:
    best = TrialScore(2, 50.0, {})
    assert is_overturned(best, [make_confirmed(3, 40.0, [1.0])])
    assert not is_overturned(best, [make_confirmed(2, 50.0, [1.0])])
    assert not is_overturned(best, [])
    assert not is_overturned(None, [make_confirmed(3, 40.0, [1.0])])
