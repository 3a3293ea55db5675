"""Odd environments are refused by name, or work, whichever way they are stepped."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.description import describe_env
from dqnkit.envs.rendering import RenderedEnvironment
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError
from tests.faulty import BROKEN
from tests.odd import HARMLESS, LENGTH, OBSERVATIONS, ODD_STEP, RESULTS

VECTORS = ("sync", "async", "vector_entry_point")
MESSAGES = {name: row[-1] for name, row in (OBSERVATIONS | RESULTS).items()}
FOR_ALL = ("above", "leaf", "nan", "shape", "reward in words", "two rewards", "end in words")
"""Oddities that are tried in processes too, which take a second to start."""


def _config(oddity: str, vectorization: str = "sync") -> EnvConfig:
    return EnvConfig(
        id="tests.odd:Odd-v0",
        kwargs={"oddity": oddity},
        vectorization=vectorization,
        step_timeout=5.0,
    )


def _make(oddity: str, vectorization: str = "sync", num_envs: int = 1) -> VectorEnvironment:
    config = _config(oddity, vectorization)
    return VectorEnvironment(config, describe_env(config), num_envs)


def _play(environment: VectorEnvironment, steps: int = 2 * LENGTH) -> float:
    """Return the sum of the rewards of some steps."""
    environment.reset(range(environment.num_envs))
    zeros = np.zeros(environment.num_envs, np.int32)
    return sum(float(environment.step(zeros).reward.sum()) for _ in range(steps))


CASES = [
    (oddity, vectorization, num_envs)
    for oddity in MESSAGES
    for vectorization in VECTORS
    for num_envs in (1, 2)
    if vectorization != "async" or (oddity in FOR_ALL and num_envs == 2)
]


@pytest.mark.parametrize(("oddity", "vectorization", "num_envs"), CASES)
def test_what_does_not_belong_to_the_interface_is_named(
    oddity: str, vectorization: str, num_envs: int
) -> None:
    environment = _make(oddity, vectorization, num_envs)
    with pytest.raises(EnvironmentFailedError, match=MESSAGES[oddity]) as caught:
        _play(environment)
    environment.close()
    message = str(caught.value)
    assert message.startswith("'tests.odd:Odd-v0'")
    assert f"in step {ODD_STEP} of an episode, " in message
    assert "\n" not in message
    assert environment.take_warnings() == []


@pytest.mark.parametrize("oddity", MESSAGES)
def test_the_same_is_named_while_an_episode_is_rendered(oddity: str) -> None:
    config = _config(oddity)
    environment = RenderedEnvironment(config, describe_env(config))
    environment.reset(0)
    for _ in range(ODD_STEP - 1):
        environment.step(0)
    with pytest.raises(EnvironmentFailedError, match=MESSAGES[oddity]):
        environment.step(0)
    assert environment.close() == []


READABLE = [
    (oddity, vectorization)
    for oddity in HARMLESS
    for vectorization in VECTORS
    if vectorization != "async" or oddity in {"infos", "options", "reward of one"}
]


@pytest.mark.parametrize(("oddity", "vectorization"), READABLE)
def test_what_can_be_read_in_one_way_is_read_so(oddity: str, vectorization: str) -> None:
    environment = _make(oddity, vectorization, 2)
    assert _play(environment) == 4 * LENGTH
    environment.close()
    assert environment.take_warnings() == []


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(
    ("oddity", "message"),
    [("observation alone", "from reset; this is"), ("four values", "4 values from step; this is")],
)
def test_the_interface_of_old_gym_is_recognised(
    oddity: str, message: str, vectorization: str
) -> None:
    environment = _make(oddity, vectorization)
    with pytest.raises(EnvironmentFailedError, match=f"{message} the interface of Gym before 0.26"):
        _play(environment)
    environment.close()


def test_a_reset_without_seed_is_recognised() -> None:
    config = EnvConfig(id="tests.odd:OldReset-v0")
    environment = VectorEnvironment(config, describe_env(config), 1)
    with pytest.raises(EnvironmentFailedError, match=r"failed in reset: TypeError.*Gym before"):
        environment.reset([0])


def _same_step(final: object) -> VectorEnvironment:
    config = EnvConfig(
        id="tests.odd:SameStep-v0", kwargs={"final": final}, vectorization="vector_entry_point"
    )
    return VectorEnvironment(config, describe_env(config), 2)


def test_final_observations_of_the_same_step_are_checked_too() -> None:
    assert _play(_same_step(0.0)) == 4 * LENGTH
    with pytest.raises(EnvironmentFailedError, match=r"\(environment 1 of 2\), in step 5 .*nan"):
        _play(_same_step(float("nan")))
    with pytest.raises(EnvironmentFailedError, match=r"gave no infos\['final_obs'\]"):
        _play(_same_step(None))


def test_a_vector_class_whose_reset_returns_something_else_is_named() -> None:
    with pytest.raises(EnvironmentFailedError, match="returned None, but must return observations"):
        _play(_same_step("no reset"))


def test_floats_out_of_bounds_are_told_once_and_used() -> None:
    config = EnvConfig(id="LunarLander-v3")
    environment = VectorEnvironment(config, describe_env(config), 2)
    environment.reset([0, 1])
    most = 0.0
    for _ in range(200):
        step = environment.step(np.array([2, 2]))  # the main engine: up, beyond 2.5
        most = max(most, float(step.frame[:, 1].max()))
    environment.close()
    (warning,) = environment.take_warnings()
    assert most > 2.5
    assert "gave an observation outside its space: it contains 2.5" in warning
    assert "numbers from -10 to 10; values like this are used as they are" in warning


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"offset": 2**24, "change": 1, "dtype": "int64"},
            "16777217, which is stored as float32 and becomes 16777216",
        ),
        (
            {"offset": 1.7e9, "change": 1.0},
            "numbers between 1700000000 and 1700000010, which are stored as float32, whose",
        ),
    ],
)
def test_observations_that_float32_cannot_tell_apart_are_told_once(
    kwargs: dict[str, Any], message: str
) -> None:
    config = EnvConfig(id="tests.odd:Far-v0", kwargs=kwargs)
    environment = VectorEnvironment(config, describe_env(config), 3)
    _play(environment, 1_024)
    environment.close()
    (warning,) = environment.take_warnings()
    assert f"gave observations with {message}" in warning
    assert "in 'far': subtract an offset" in warning


def test_observations_that_float32_tells_apart_give_no_warning() -> None:
    for kwargs in (
        {"offset": 2**24, "change": 2, "dtype": "int64"},
        {"offset": 100.0, "change": 1e-3},
        {"offset": 100.0, "change": 0.0},
        {"offset": 100.0, "change": 1e-14},  # an error of rounding
        {"offset": 1.25, "change": 1e-8},  # a value that hardly moves
    ):
        config = EnvConfig(id="tests.odd:Far-v0", kwargs=kwargs)
        environment = VectorEnvironment(config, describe_env(config), 1)
        _play(environment, 1_024)
        environment.close()
        assert environment.take_warnings() == []


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize(
    ("oddity", "name"), [("global generator", "np.random"), ("random module", "random")]
)
def test_generators_that_no_seed_reaches_are_told_once(
    oddity: str, name: str, vectorization: str
) -> None:
    environment = _make(oddity, vectorization)
    _play(environment)
    (warning,) = environment.take_warnings()
    assert f"draws from the global generator of {name}, which no seed of a run reaches" in warning
    environment.close()
    assert environment.take_warnings() == []


# -- Closing


@pytest.mark.parametrize("vectorization", VECTORS)
def test_a_close_that_raises_is_a_warning(vectorization: str) -> None:
    environment = _make("close raises", vectorization)
    _play(environment)
    environment.close()
    (warning,) = environment.take_warnings()
    assert "failed in close (OSError: closed already); the results are not affected" in warning


@pytest.mark.parametrize("vectorization", VECTORS)
def test_an_environment_that_exits_does_not_end_the_command(vectorization: str) -> None:
    """`sys.exit(0)` would end it without a word, and as if all were well."""
    environment = _make("close exits", vectorization)
    _play(environment)
    environment.close()
    (warning,) = environment.take_warnings()
    assert "failed in close (SystemExit: 0)" in warning
    with pytest.raises(UnsupportedEnvironmentError, match=r"cannot create .*SystemExit: 0"):
        _make("creation exits", vectorization)


@pytest.mark.parametrize("vectorization", VECTORS)
def test_a_close_that_hangs_is_given_up(vectorization: str) -> None:
    config = _config("close hangs", vectorization).model_copy(update={"step_timeout": 0.5})
    spec = describe_env(config.model_copy(update={"kwargs": {}}))
    environment = VectorEnvironment(config, spec, 1)
    _play(environment)
    environment.close()
    (warning,) = environment.take_warnings()
    assert "failed in close (it took longer than 0.5 seconds)" in warning


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_environments_are_closed_after_good_and_bad_ends(
    vectorization: str, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"
    config = EnvConfig(
        id="tests.odd:Licensed-v0", kwargs={"lock": str(lock)}, vectorization=vectorization
    )
    spec = describe_env(config)
    for is_good in (True, False):
        environment = VectorEnvironment(config, spec, 1)
        assert lock.exists()
        if is_good:
            _play(environment)
        environment.close()
        assert not lock.exists()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_no_instance_is_left_when_one_cannot_be_made(vectorization: str, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    config = EnvConfig(
        id="tests.odd:Licensed-v0", kwargs={"lock": str(lock)}, vectorization=vectorization
    )
    with pytest.raises(UnsupportedEnvironmentError, match="the licence is in use"):
        VectorEnvironment(config, describe_env(config), 2)
    assert not lock.exists()


@pytest.mark.parametrize("fault", ["raise", "die"])
def test_nothing_is_printed_when_processes_are_closed_after_a_fault(
    fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config = EnvConfig(
        id="tests.faulty:Faulty-v0",
        kwargs={"fault": fault, "after": 0},
        vectorization="async",
    )
    environment = VectorEnvironment(config, describe_env(config), 2)
    environment.reset([0, 1])
    BROKEN.touch()
    with pytest.raises(EnvironmentFailedError):
        environment.step(np.zeros(2, int))
    environment.close()
    del environment
    gc.collect()
    assert capfd.readouterr().err == ""
