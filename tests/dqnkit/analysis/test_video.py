from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from dqnkit.analysis.video import render
from dqnkit.config import loading
from dqnkit.errors import ConfigError, EnvironmentFailedError, UnsupportedEnvironmentError
from dqnkit.events import EpisodesPlayed, Event
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.references import find_run
from dqnkit.tracking.store import RunStore
from tests.runs import LEAN, record

DRAWN = ["env.id=tests.environments:Drawn-v0", "network.fc_layer_params=[]"]
"""Five steps of reward 10; all pixels of state n are 10 n, 40 rows by 60 columns."""


def _frames(path: Path) -> np.ndarray:
    reader = imageio_ffmpeg.read_frames(str(path.resolve()))
    width, height = next(reader)["size"]
    return np.array([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader])


def _record(*assignments: str, **more: Any) -> None:
    record(loading.default_config("drawn", [*DRAWN, *assignments]), with_policy=True, **more)


def test_a_video_shows_each_step_and_holds_the_last_frame(tmp_path: Path) -> None:
    _record()
    video = render("latest", overlay=False, output=Path("a.mp4"))
    assert video.returns == {"trained": [50.0]}
    assert (video.fps, video.frames) == (5.0, 6 + 4)  # the last one for 0.8 s
    frames = _frames(Path("a.mp4"))
    assert frames.shape == (10, 360, 540, 3)  # 40 by 60, enlarged nine times
    shown = frames.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown, [0, 10, 20, 30, 40, *[50] * 5], atol=2)


def test_a_video_is_an_artifact_of_its_run() -> None:
    _record()
    video = render("latest", episodes=2, seed=3)
    assert video.artifact == "videos/policy-s3-2ep.mp4"
    assert video.path is not None
    assert video.path.is_file()
    assert list(Path.cwd().glob("*.mp4")) == []
    reader = RunStore(locate_store())
    assert "videos" in reader.artifacts(find_run(reader, "latest"))
    assert len(video.returns["trained"]) == 2
    assert video.frames == 2 * (6 + 4)


def test_an_agent_that_has_ended_waits_for_the_other() -> None:
    record(weights=LEAN, with_policy=True)
    video = render(
        "latest",
        baseline="random",
        max_steps=45,
        episodes=2,
        fps=10,
        output=Path("a.mp4"),
    )
    assert video.returns["trained"] == [45.0, 45.0]
    assert all(8 <= value < 45 for value in video.returns["random"])
    assert video.frames == 2 * (46 + 8)
    frames = _frames(Path("a.mp4")).astype(int)
    left, right = frames[:, :, :600], frames[:, :, 600 + 260 + 8 : -260]
    assert left.shape == right.shape == (108, 400, 600, 3)

    def apart(first: np.ndarray, second: np.ndarray) -> float:
        """Return the share of pixels that differ clearly, such as those of the pole."""
        return float((np.abs(first - second) > 60).any(axis=2).mean())

    end = int(video.returns["random"][0])
    assert apart(right[end], right[43]) == 0  # the pole has fallen, and the last frame is repeated
    panel = frames[:, :, 600 : 600 + 260]
    assert apart(panel[end], panel[43]) > 0.001  # the other panel still counts
    assert apart(left[0], right[0]) == 0  # the same initial state on both sides
    assert apart(left[45], right[45]) > 0.003
    assert apart(right[54], right[45]) > 0.001  # the next episode has begun


def test_the_seed_determines_the_episode() -> None:
    record(weights=-LEAN, with_policy=True)
    videos = [render("latest", seed=seed).returns for seed in (0, 0, 1, 2, 3)]
    assert videos[0] == videos[1]
    assert len({tuple(video["trained"]) for video in videos}) > 1


def test_the_environment_is_that_of_evaluation() -> None:
    """Wrappers of evaluation, stacked frames, and the environment's own numbering of actions."""
    _record(
        "env.wrappers=[tests.environments.Doubled]",
        "evaluation.wrappers=[]",
        "env.frame_stack=3",
        "env.kwargs={first_action: 5, length: 3}",
    )
    video = render("latest", baseline="random")
    assert video.returns == {"trained": [30.0], "random": [30.0]}


def test_the_video_of_a_policy_folder_is_written_into_the_working_directory() -> None:
    _record()
    (policy,) = Path("mlruns/artifacts").glob("*/*/artifacts/policy")
    policy.rename("kept")
    video = render("./kept", video_format="gif")
    assert video.path == Path("tests.environments-Drawn-v0-s0.gif")
    assert video.path.read_bytes().startswith(b"GIF89a")
    assert (video.run, video.artifact) == (None, None)


def test_without_a_store_a_policy_folder_is_rendered() -> None:
    _record()
    (policy,) = Path("mlruns/artifacts").glob("*/*/artifacts/policy")
    video = render(str(policy), output="a.gif", tracking_uri=None)
    assert video.path == Path("a.gif")
    assert (video.run, video.artifact, video.label) == (None, None, str(policy))
    assert not list(Path("mlruns").rglob("*.gif"))
    with pytest.raises(ConfigError, match="tracking_uri=None: the run 'latest' is in a store"):
        render("latest", tracking_uri=None)


def test_options_give_the_artifact_its_name() -> None:
    _record()
    video = render("latest", baseline="random", max_steps=2, fps=7.5, overlay=False, output="a.gif")
    assert video.artifact == "videos/policy-and-random-s0-1ep-2steps-7.5fps-plain.gif"
    (artifact,) = Path("mlruns").rglob("*.gif")
    assert artifact.read_bytes() == Path("a.gif").read_bytes()


def test_a_video_becomes_a_json_document() -> None:
    _record()
    document = render("latest", episodes=2).as_dict()
    assert document["artifact"] == "videos/policy-s0-2ep.mp4"
    assert (document["frames"], document["fps"], document["seconds"]) == (20, 5.0, 4.0)
    assert document["returns"] == {"trained": [50.0, 50.0]}
    assert (document["env"], document["problems"]) == ("tests.environments:Drawn-v0", [])


def test_an_episode_is_cut_off_where_evaluation_does_it() -> None:
    _record("evaluation.max_episode_steps=3")
    assert render("latest").returns == {"trained": [30.0]}
    assert render("latest", max_steps=2).returns == {"trained": [20.0]}


def test_a_video_that_cannot_be_recorded_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _record()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dqnkit.tracking.store.shutil.copytree", full)
    video = render("latest")
    assert video.path == Path("policy-s0-1ep.mp4")
    assert len(_frames(video.path)) == video.frames
    assert video.artifact is None
    assert "No space left" in video.problems[0]


def test_frames_that_change_their_size_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.environments import DrawnCorridor

    def grow(self: DrawnCorridor) -> np.ndarray:
        return np.full((40 + self.state, 60 - self.state, 3), 200, np.uint8)

    _record()
    monkeypatch.setattr(DrawnCorridor, "render", grow)
    render("latest", overlay=False, baseline="random", output=Path("a:1.mp4"))
    frames = _frames(Path("a:1.mp4"))
    assert frames.shape == (10, 360, 2 * 540 + 8, 3)


def test_an_environment_that_cannot_draw_leaves_no_file() -> None:
    record(loading.default_config("x", ["env.id=tests.environments:Corridor-v0"]), with_policy=True)
    with pytest.raises(UnsupportedEnvironmentError, match="cannot be drawn"):
        render("latest", output=Path("sub/a.mp4"))
    assert not Path("sub").exists()


def test_an_environment_that_fails_in_an_episode_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.environments import DrawnCorridor

    def fail(self: DrawnCorridor) -> np.ndarray:
        if self.state == 3:
            raise ZeroDivisionError("no canvas")
        return np.zeros((40, 60, 3), np.uint8)

    _record()
    monkeypatch.setattr(DrawnCorridor, "render", fail)
    with pytest.raises(EnvironmentFailedError, match="render"):
        render("latest", output=Path("a.mp4"))
    assert [path.name for path in Path.cwd().iterdir()] == ["mlruns"]
    assert not list(Path("mlruns").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "episodes=0: expected a number from 1 to 10,000"),
        ({"episodes": -3}, "episodes=-3"),
        ({"fps": 0.0}, "fps=0.0: expected a number from 0.1 to 240.0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"fps": float("inf")}, "fps=inf"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**63}, "seed="),
        ({"baseline": "best"}, "baseline=best: expected random"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render("latest", **options)


@pytest.mark.parametrize(
    ("output", "video_format"), [("a.avi", None), ("a", None), ("a.gif", "mp4"), ("a.mp4", "gif")]
)
def test_names_that_do_not_fit_the_format_are_refused(output: str, video_format: Any) -> None:
    with pytest.raises(ConfigError, match=f"output={output}: the name of the file must end in"):
        render("latest", output=Path(output), video_format=video_format)


def test_a_listener_receives_each_episode() -> None:
    record(weights=LEAN, with_policy=True)
    events: list[Event] = []
    render("latest", baseline="random", max_steps=2, episodes=2, listener=events.append)
    both = ("trained", "random")
    assert events == [EpisodesPlayed(both, 1, 2), EpisodesPlayed(both, 2, 2)]
