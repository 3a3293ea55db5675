"""Properties of every training loop, for the graph loop and the host loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dqnkit._system.arrays import Arrays
from dqnkit._system.tensorflow import tf
from dqnkit.agents.learner import DqnLearner, UpdateInfo
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.envs.transitions import Transitions
from dqnkit.errors import ConfigError
from dqnkit.loops.base import IntervalMetrics
from dqnkit.loops.graph import TABLE, GraphLoop
from dqnkit.loops.host import HostLoop
from dqnkit.runs.components import make_host_loop, make_loop
from tests.environments import GraphCorridor
from tests.specs import vector_spec

Small = Callable[..., Config]
AnyLoop = GraphLoop | HostLoop


class Make(Protocol):
    """Makes a loop in a Corridor without starting it."""

    def __call__(
        self, *assignments: str, length: int = 5, limit: int = 1_000, observe: str = "state"
    ) -> AnyLoop: ...


in_every_autoreset_mode = pytest.mark.parametrize(
    "make", ["graph", "host", "host-next-step", "host-disabled"], indirect=True
)


@pytest.fixture(params=["graph", "host"])
def make(request: pytest.FixtureRequest, small: Small) -> Iterator[Make]:
    """Return a function that makes the graph loop, or the host loop in one autoreset mode."""
    kind: str = request.param
    loops: list[AnyLoop] = []

    def graph(config: Config, length: int, limit: int, observe: str) -> AnyLoop:
        dynamics = GraphCorridor(length=length, max_episode_steps=limit, observe_as=observe)
        resolved, _ = resolve(config)
        return GraphLoop(resolved, vector_spec(dynamics.observation_size), dynamics)

    def host(config: Config, length: int, limit: int, observe: str) -> AnyLoop:
        kwargs = {"length": length, "max_episode_steps": limit, "observe": observe}
        update = {"id": "tests.environments:Corridor-v0", "kwargs": kwargs}
        if kind != "host":
            kwargs["autoreset_mode"] = {"host-next-step": "NextStep"}.get(kind, "Disabled")
            update["vectorization"] = "vector_entry_point"
        env = config.env.model_copy(update=update)
        return make_host_loop(*resolve(config.model_copy(update={"env": env})))

    def made(
        *assignments: str, length: int = 5, limit: int = 1_000, observe: str = "state"
    ) -> AnyLoop:
        builder = graph if kind == "graph" else host
        loops.append(builder(small(*assignments), length, limit, observe))
        return loops[-1]

    yield made
    for loop in loops:
        loop.close()


def stored(loop: AnyLoop) -> np.ndarray:
    """Return rows (observation, action, reward, discount, next observation) of the replay."""
    if isinstance(loop, HostLoop):
        sample = loop._replay.transitions()
        return np.concatenate([sample.frames[:, 0], sample.scalars, sample.frames[:, 1]], axis=1)
    return loop.state()[TABLE][:, :-1]  # without the ends of episodes


@in_every_autoreset_mode
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_terminal_state_has_discount_zero_and_no_transition_crosses_a_reset(
    make: Make, num_envs: int
) -> None:
    loop = make(f"env.num_envs={num_envs}")
    loop.start()
    loop.advance(40)
    rows = stored(loop)
    assert len(rows) == loop.env_steps
    observation, _, reward, discount, following = rows.T
    np.testing.assert_array_equal(following, observation + 1.0)
    np.testing.assert_array_equal(discount, np.where(following == 5.0, 0.0, 1.0))
    np.testing.assert_array_equal(reward, 10.0)
    assert set(observation) == {0.0, 1.0, 2.0, 3.0, 4.0}


@in_every_autoreset_mode
def test_truncation_keeps_the_discount_and_the_true_last_observation(make: Make) -> None:
    loop = make(length=1_000, limit=3)
    loop.start()
    observation, _, _, discount, following = stored(loop).T
    np.testing.assert_array_equal(observation, np.arange(len(observation)) % 3)
    np.testing.assert_array_equal(following, observation + 1.0)  # 3 after the limit, never 0
    np.testing.assert_array_equal(discount, 1.0)


@in_every_autoreset_mode
def test_a_step_that_is_both_terminal_and_truncated_is_terminal(make: Make) -> None:
    loop = make(length=3, limit=3)
    loop.start()
    observation, _, _, discount, _ = stored(loop).T
    np.testing.assert_array_equal(discount, np.where(observation == 2.0, 0.0, 1.0))


TABULAR = (
    "agent.gamma=0.5",
    "agent.target_update_period=10",
    "network.fc_layer_params=[]",
    "optimizer.learning_rate=0.05",
    "training.batch_size=32",
)


@in_every_autoreset_mode
def test_q_values_converge_to_the_discounted_sum_of_rewards(make: Make) -> None:
    """The value of state 4 is the reward alone: a terminal state is not bootstrapped from."""
    loop = make(*TABULAR, observe="one_hot")
    loop.start()
    loop.advance(3_000)
    values = loop.learner.q_values(tf.one_hot([4, 3, 2, 1, 0], 6)).numpy()
    expected = [10.0, 15.0, 17.5, 18.75, 19.375]  # 10 + 0.5 * the next
    np.testing.assert_allclose(values.max(axis=1), expected, rtol=1e-3)


C51 = ("agent.v_min=0", "agent.v_max=40", "agent.num_atoms=81")
VARIANTS = {
    "double_dqn": ["agent.kind=double_dqn"],
    "c51": ["agent.kind=c51", *C51],
    "n_step": ["agent.n_step=3"],
    "dueling": ["network.dueling=true"],
    "prioritized": ["replay.kind=prioritized", "replay.beta_steps=1000"],
    "boltzmann": ["exploration.policy=boltzmann"],
    "all": [
        *("agent.kind=double_c51", "agent.n_step=3", "network.dueling=true"),
        *("replay.kind=prioritized", "exploration.policy=boltzmann", *C51),
    ],
}


@pytest.mark.parametrize(
    "variant",
    [
        # The others are parts of "all".
        pytest.param(name, marks=[] if name in {"double_dqn", "all"} else [pytest.mark.slow])
        for name in VARIANTS
    ],
)
def test_every_variant_converges_to_the_discounted_sum_of_rewards(make: Make, variant: str) -> None:
    loop = make(*TABULAR, *VARIANTS[variant], "env.num_envs=2", observe="one_hot")
    loop.start()
    loop.advance(3_000)
    values = loop.learner.q_values(tf.one_hot([4, 3, 2, 1, 0], 6)).numpy()
    np.testing.assert_allclose(values.max(axis=1), [10.0, 15.0, 17.5, 18.75, 19.375], rtol=0.01)


@in_every_autoreset_mode
def test_truncated_episodes_bootstrap(make: Make) -> None:
    _check_bootstrap(make)


@pytest.mark.parametrize(
    "make",
    [
        "graph",
        "host",
        pytest.param("host-next-step", marks=pytest.mark.slow),
        pytest.param("host-disabled", marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_truncated_episodes_bootstrap_over_n_steps(make: Make) -> None:
    _check_bootstrap(make, "agent.n_step=4", "replay.kind=prioritized")


def _check_bootstrap(make: Make, *variant: str) -> None:
    loop = make(*TABULAR, *variant, length=1_000, limit=5, observe="constant")
    loop.start()
    loop.advance(3_000)
    values = loop.learner.q_values(tf.constant([[1.0]])).numpy()
    np.testing.assert_allclose(values.max(), 20.0, rtol=1e-3)  # 10 / (1 - 0.5)


@pytest.mark.parametrize("kind", ["graph", "host"])
def test_the_state_depends_on_the_seed_and_not_on_the_size_of_chunks(
    small: Small, kind: str
) -> None:
    def play(seed: int, chunks: list[int]) -> tuple[list[IntervalMetrics], Arrays]:
        settings = (f"training.seed={seed}", "training.log_interval=7", f"training.loop={kind}")
        loop = make_loop(*resolve(small(*settings)))
        loop.start()
        return [metrics for chunk in chunks for metrics in loop.advance(chunk)], loop.state()

    expected, whole = play(1, [60])
    assert [each.iteration for each in expected] == list(range(7, 60, 7))
    metrics, state = play(1, [*[1] * 15, 25, 20])
    assert repr(metrics) == repr(expected)  # repr, because NaN differs from itself
    assert_same(whole, state)

    _, other = play(2, [60])
    table = next(k for k, v in whole.items() if v.dtype == np.float32 and v.ndim > 1)
    for name in ("agent/online/parameters", table):
        assert not np.array_equal(whole[name], other[name])


def test_a_restored_loop_may_be_started_and_loses_nothing(make: Make) -> None:
    settings = ("training.log_interval=50",)
    loop = make(*settings)
    loop.start()
    loop.advance(25)
    kept, steps, transitions = loop.state(), loop.env_steps, stored(loop).copy()
    loop.advance(5)
    restored = make(*settings)
    restored.restore(kept)
    restored.start()
    assert (restored.iteration, restored.env_steps) == (25, steps)
    np.testing.assert_array_equal(stored(restored), transitions)
    (rest,) = restored.flush()
    assert rest.iteration == 25
    assert np.isfinite(rest.loss)


@in_every_autoreset_mode
def test_counters_and_metrics_are_those_of_the_corridor(make: Make) -> None:
    loop = make(
        "env.num_envs=2",
        "training.collect_steps_per_iteration=3",
        "training.gradient_steps_per_iteration=2",
        "training.initial_collect_steps=10",
        "exploration.schedule=linear",
        "exploration.initial_epsilon=1.0",
        "exploration.epsilon=0.0",
        "exploration.decay_steps=130",
    )
    loop.start()
    assert loop.env_steps == 10
    first, second = loop.advance(20)
    assert int(loop.learner.agent.train_step_counter) == 40
    assert (first.iteration, second.iteration) == (10, 20)
    assert second.env_steps == loop.env_steps
    assert (first.return_mean, first.length_mean) == (50.0, 5.0)
    if isinstance(loop, HostLoop) and loop._environment._mode is AutoresetMode.NEXT_STEP:
        # Of the 60 steps of each environment, one in six goes into a reset.
        assert second.env_steps == 10 + 2 * 50
        assert first.episodes == second.episodes == 10
        return
    assert (first.env_steps, second.env_steps) == (10 + 10 * 6, 10 + 20 * 6)
    # Ten initial steps end the first episodes of both environments; each later one takes 5 steps.
    assert first.episodes == second.episodes == 12
    # Vector steps at 10, 12, ..., 68: their mean is 39.
    assert first.exploration == pytest.approx(1.0 - 39 / 130)
    assert second.exploration == pytest.approx(1.0 - 99 / 130)


def test_epsilon_zero_acts_greedily_and_one_acts_uniformly(make: Make) -> None:
    settings = ("training.initial_collect_steps=1", "replay.replay_buffer_max_length=5000")
    still = ("training.gradient_steps_per_iteration=0", *settings)
    greedy = make("exploration.epsilon=0", *still)
    greedy.start()
    greedy.advance(50)
    rows = stored(greedy)[1:]
    values = greedy.learner.q_values(tf.constant(rows[:, :1], tf.float32)).numpy()
    np.testing.assert_array_equal(rows[:, 1], values.argmax(axis=1))

    random = make("exploration.epsilon=1", *still)
    random.start()
    random.advance(3_000)
    counts = np.bincount(stored(random)[:, 1].astype(int), minlength=3)
    expected = counts.sum() / 3
    # Pearson's chi-squared; 18.4 is the 0.01 % critical value at 2 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 18.4


def test_a_low_temperature_acts_greedily_and_a_high_one_uniformly(make: Make) -> None:
    settings = ("training.initial_collect_steps=1", "replay.replay_buffer_max_length=5000")
    still = ("training.gradient_steps_per_iteration=0", "exploration.policy=boltzmann", *settings)
    greedy = make("exploration.temperature=1e-6", *still)
    greedy.start()
    (metrics, *_) = greedy.advance(50)
    assert metrics.exploration == pytest.approx(1e-6)
    rows = stored(greedy)[1:]
    values = greedy.learner.q_values(tf.constant(rows[:, :1], tf.float32)).numpy()
    taken = np.take_along_axis(values, rows[:, 1:2].astype(int), axis=1)[:, 0]
    np.testing.assert_allclose(taken, values.max(axis=1), atol=1e-4)  # ties are random
    assert np.ptp(values, axis=1).max() > 0.01

    random = make("exploration.temperature=1e6", *still)
    random.start()
    random.advance(3_000)
    counts = np.bincount(stored(random)[:, 1].astype(int), minlength=3)
    expected = counts.sum() / 3
    assert ((counts - expected) ** 2 / expected).sum() < 18.4


def _leaves(loop: AnyLoop) -> np.ndarray:
    """Return the priorities of the transitions that `stored` returns."""
    if isinstance(loop, HostLoop):
        return loop._replay._tree.leaves[loop._replay.transitions().rows]  # type: ignore[attr-defined]
    leaves = loop._state.replay.priorities.levels[0].numpy()
    return np.asarray(leaves[: len(stored(loop))])


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_td_errors_become_priorities_and_importance_weights(
    make: Make, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update is replaced: its TD errors are the observations, its loss the sum of weights."""

    def update(_: DqnLearner, transitions: Transitions, weights: tf.Tensor) -> UpdateInfo:
        errors = tf.reshape(tf.cast(transitions.observation, tf.float32), [-1])
        return UpdateInfo(tf.reduce_sum(weights), -errors)

    monkeypatch.setattr(DqnLearner, "update", update)
    loop = make(
        *("replay.kind=prioritized", "replay.alpha=0.5", "training.gradient_steps_per_iteration=2"),
        *(f"replay.initial_beta={beta}", f"replay.beta={beta}", "exploration.epsilon=1.0"),
    )
    loop.start()
    *_, last = loop.advance(200)
    observation, leaves = stored(loop)[:-1, 0], _leaves(loop)[:-1]  # without the newest
    own = (observation + 1e-6) ** 0.5
    highest = 4.000001**0.5
    drawn = np.isclose(leaves, own, rtol=1e-5)
    assert (drawn | np.isclose(leaves, highest, rtol=1e-5) | (leaves == 1.0)).all()
    assert drawn.mean() > 0.8
    if beta == 0.0:
        assert last.loss == pytest.approx(8.0)  # each of the batch weighs 1
    else:
        assert 0.0 < last.loss < 7.0


def test_an_unfinished_log_interval_is_flushed(make: Make) -> None:
    loop = make("training.log_interval=50", "training.initial_collect_steps=1")
    loop.start()
    assert loop.flush() == []
    assert loop.advance(20) == []
    (rest,) = loop.flush()
    assert (rest.iteration, rest.env_steps) == (20, loop.env_steps)
    assert rest.episodes in {3, 4}
    assert np.isfinite(rest.loss)
    assert loop.flush() == []


def test_a_foreign_state_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="it belongs to another loop"):
        make().restore({"a": np.zeros(3)})


def test_a_replay_that_exceeds_the_memory_is_refused_with_its_size(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"needs [\d,]+ GiB, and this machine has"):
        make("replay.replay_buffer_max_length=1e12")


def test_without_gradient_steps_nothing_is_learned(make: Make) -> None:
    loop = make("training.gradient_steps_per_iteration=0")
    before = loop.policy_weights()
    loop.start()
    metrics = loop.advance(10)
    np.testing.assert_array_equal(before, loop.policy_weights())
    assert np.isnan(metrics[0].loss)


def assert_same(mine: Arrays, other: Arrays) -> None:
    """Assert that all arrays are equal to the last bit."""
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
