from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

from dqnkit.config.sections import EnvConfig
from dqnkit.envs.description import describe_env
from dqnkit.envs.rendering import RenderedEnvironment
from dqnkit.errors import EnvironmentFailedError, UnsupportedEnvironmentError


def _rendered(env_id: str, **settings: Any) -> RenderedEnvironment:
    config = EnvConfig(id=env_id, **settings)
    return RenderedEnvironment(config, describe_env(config))


@pytest.mark.parametrize(
    ("env_id", "fps"),
    [
        ("CartPole-v1", 50),
        ("Acrobot-v1", 15),
        ("MountainCar-v0", 30),
        ("FrozenLake-v1", 4),
        ("Taxi-v4", 4),
        ("CliffWalking-v1", 4),
        ("LunarLander-v3", 50),
        ("MinAtar/Breakout-v1", 15),
        ("ALE/Pong-v5", 30),
    ],
)
def test_every_environment_is_rendered(env_id: str, fps: float) -> None:
    environment = _rendered(env_id)
    assert environment.fps == fps
    spec = environment._spec
    observation = environment.reset(3)
    assert observation.shape == spec.observation.shape
    frames = [environment.frame()]
    for step in range(8):
        _, reward, terminated, truncated = environment.step(step % spec.num_actions)
        assert isinstance(reward, float)
        frames.append(environment.frame())
        if terminated or truncated:
            break
    environment.close()
    for frame in frames:
        assert (frame.dtype, frame.ndim, frame.shape[2]) == (np.uint8, 3, 3)
        assert frame.max() > 50  # bytes, not numbers in [0, 1]
        assert len(np.unique(frame)) > 1
    assert any(not np.array_equal(frames[0], frame) for frame in frames[1:])


def test_no_display_is_needed_and_nothing_is_printed() -> None:
    code = """
from dqnkit.config.sections import EnvConfig
from dqnkit.envs.description import describe_env
from dqnkit.envs.rendering import RenderedEnvironment
for env_id in ("CartPole-v1", "FrozenLake-v1", "LunarLander-v3"):
    config = EnvConfig(id=env_id)
    environment = RenderedEnvironment(config, describe_env(config))
    environment.reset(0)
    assert environment.frame().max() > 0
"""
    without = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "SDL_VIDEODRIVER")
    environment = {key: value for key, value in os.environ.items() if key not in without}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_action_names_are_those_of_the_environment() -> None:
    environment = _rendered("ALE/Pong-v5")
    assert environment.action_names[:2] == ["noop", "fire"]
    environment.close()


def test_stacks_are_those_of_training() -> None:
    environment = _rendered("tests.environments:Drawn-v0", frame_stack=3)
    first = environment.reset(0)
    np.testing.assert_array_equal(first, np.stack([first[0]] * 3))
    second, *_ = environment.step(1)
    np.testing.assert_array_equal(second[:2], first[:2])
    assert not np.array_equal(second[2], first[2])


def test_actions_are_converted_to_the_environments_own_numbers() -> None:
    environment = _rendered("tests.environments:Drawn-v0", kwargs={"first_action": 5})
    environment.reset(0)
    environment.step(0)  # the Corridor refuses actions below 5
    assert environment.action_names == ["action 5", "action 6", "action 7"]


def test_an_environment_that_cannot_render_is_explained() -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=r"cannot be drawn.*'rgb_array'"):
        _rendered("tests.environments:Corridor-v0")


@pytest.mark.parametrize(
    ("drawn", "shape"),
    [
        (np.full((8, 6), 200, np.uint8), (8, 6, 3)),
        (np.full((8, 6, 4), 200, np.uint8), (8, 6, 3)),
        (np.full((8, 6, 3), 200 / 255), (8, 6, 3)),
        ([[[200] * 3] * 6] * 8, (8, 6, 3)),
    ],
)
def test_images_of_other_shapes_and_dtypes_become_bytes(
    drawn: np.ndarray, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    monkeypatch.setattr(environment._env.unwrapped, "render", lambda: drawn)
    environment.reset(0)
    frame = environment.frame()
    assert (frame.shape, frame.dtype) == (shape, np.uint8)
    np.testing.assert_allclose(frame, 200, atol=1)


def test_boolean_images_are_black_and_white(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    bits = np.eye(8, dtype=np.bool_)
    monkeypatch.setattr(environment._env.unwrapped, "render", lambda: bits)
    environment.reset(0)
    np.testing.assert_array_equal(environment.frame()[..., 1], 255 * np.eye(8))


@pytest.mark.parametrize("fps", ["fast", -3, 0, None, float("nan"), float("inf")])
def test_an_invalid_frame_rate_is_ignored(fps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    assert environment.fps == 5
    monkeypatch.setitem(environment._env.unwrapped.metadata, "render_fps", fps)
    assert environment.fps == 15


@pytest.mark.parametrize("meanings", [lambda: ["one"], lambda: 1 / 0, "text"])
def test_unsuitable_action_names_are_ignored(
    meanings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    inner = environment._env.unwrapped
    monkeypatch.setattr(inner, "get_action_meanings", meanings, raising=False)
    assert environment.action_names == ["action 0", "action 1", "action 2"]


@pytest.mark.parametrize(
    "drawn", [[[1], [1, 2]], None, "text", np.zeros((0, 0, 3)), np.zeros((4, 4, 2))]
)
def test_a_render_result_that_is_no_image_is_the_environments_fault(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    monkeypatch.setattr(environment._env.unwrapped, "render", lambda: drawn)
    environment.reset(0)
    with pytest.raises(EnvironmentFailedError, match="render"):
        environment.frame()


def test_a_raising_render_is_the_environments_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _rendered("tests.environments:Drawn-v0")

    def fail() -> None:
        raise ZeroDivisionError("no pen")

    environment.reset(0)
    monkeypatch.setattr(environment._env.unwrapped, "render", fail)
    with pytest.raises(EnvironmentFailedError, match=r"render after reset: ZeroDiv.*no pen"):
        environment.frame()
    environment.step(0)
    with pytest.raises(EnvironmentFailedError, match="failed in render after step 1 of an episode"):
        environment.frame()


def test_frames_of_a_wrong_shape_are_told_by_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    environment.reset(0)
    monkeypatch.setattr(environment._env.unwrapped, "render", lambda: np.zeros((3, 8, 9), np.uint8))
    shape = r"an array of shape \(3, 8, 9\) and type uint8 after reset, but it must return"
    with pytest.raises(EnvironmentFailedError, match=shape):
        environment.frame()


def test_floats_that_fade_in_from_black_are_scaled_by_the_first_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    environment.reset(0)
    levels = iter([0.0, 0.0, 40.0, 0.0])
    draw = lambda: np.full((8, 6, 3), next(levels))  # noqa: E731
    monkeypatch.setattr(environment._env.unwrapped, "render", draw)
    assert [int(environment.frame().max()) for _ in range(4)] == [0, 0, 40, 0]


class NeedsDriver(gymnasium.Env[Any, Any]):
    """Draws only with SDL's driver without a display, and only that of `wanted`."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, wanted: str | None, render_mode: str | None = None) -> None:
        self.wanted, self.render_mode = wanted, render_mode

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return 0, {}

    def render(self) -> np.ndarray:
        if os.environ.get("SDL_VIDEODRIVER") != self.wanted:
            raise RuntimeError("No available video device")
        return np.full((4, 4, 3), 9, np.uint8)


gymnasium.register("NeedsDriver-v0", entry_point=NeedsDriver)


@pytest.mark.parametrize("wanted", [None, "dummy"])
def test_the_driver_without_a_display_is_chosen_where_drawing_fails_without_it(
    wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    environment = _rendered("NeedsDriver-v0", kwargs={"wanted": wanted})
    environment.reset(0)
    assert environment.frame().max() == 9
    assert os.environ.get("SDL_VIDEODRIVER") == wanted


def test_a_driver_that_does_not_help_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    environment = _rendered("NeedsDriver-v0", kwargs={"wanted": "another"})
    environment.reset(0)
    assert "SDL_VIDEODRIVER" not in os.environ
    with pytest.raises(EnvironmentFailedError, match="No available video device"):
        environment.frame()


@pytest.mark.parametrize(
    ("drawn", "value"),
    [
        (np.full((8, 6, 3), 200.0), 200),
        (np.full((8, 6, 3), 200, np.int16), 200),
        (np.full((8, 6, 3), 0.5), 127),
    ],
)
def test_the_range_of_a_frame_gives_its_scale(
    drawn: np.ndarray, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    environment.reset(0)
    monkeypatch.setattr(environment._env.unwrapped, "render", lambda: drawn)
    np.testing.assert_array_equal(environment.frame(), value)


@pytest.mark.parametrize(
    ("drawn", "named"),
    [
        ([np.full((8, 6, 3), 300.0)], "float64 numbers from 300 to 300"),
        ([np.full((8, 6, 3), -3, np.int16)], "int16 numbers from -3 to -3"),
        ([np.full((8, 6, 3), np.nan)], "float64 numbers from nan to nan"),
        ([np.full((8, 6, 3), 0.5), np.full((8, 6, 3), 2.0)], "from 2 to 2 after reset, after fra"),
        ([np.full((8, 6, 3), "a")], "<U1 numbers"),
    ],
)
def test_a_range_without_a_meaning_is_named(
    drawn: list[np.ndarray], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _rendered("tests.environments:Drawn-v0")
    environment.reset(0)
    frames = iter(drawn)
    monkeypatch.setattr(environment._env.unwrapped, "render", lambda: next(frames))
    for _ in drawn[1:]:
        environment.frame()
    with pytest.raises(EnvironmentFailedError, match=named):
        environment.frame()


def test_a_vector_class_with_other_observations_cannot_be_drawn() -> None:
    config = EnvConfig(id="ALE/Pong-v5", vectorization="vector_entry_point")
    with pytest.raises(UnsupportedEnvironmentError, match=r"\(4, 84, 84\).*\(210, 160, 3\)"):
        RenderedEnvironment(config, describe_env(config))


def test_the_key_of_old_gym_for_render_modes_is_named() -> None:
    class Old(NeedsDriver):
        metadata: ClassVar[dict[str, Any]] = {"render.modes": ["human", "rgb_array"]}

    gymnasium.register("OldModes-v0", entry_point=Old)
    with pytest.raises(UnsupportedEnvironmentError, match="rename the key to 'render_modes'"):
        _rendered("OldModes-v0", kwargs={"wanted": None})
