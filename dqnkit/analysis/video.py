"""Rendering of a saved policy as a video, alone or next to random actions."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from dqnkit._system.files import kept_working_directory
from dqnkit.analysis.panel import Panel
from dqnkit.analysis.video_writer import VideoFormat, open_video
from dqnkit.config.random_streams import rendering_keys, stream_seeds, training_environment_seeds
from dqnkit.config.sections import Config
from dqnkit.envs.rendering import RenderedEnvironment
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ArgumentError
from dqnkit.events import Listener, Warned, ignore
from dqnkit.tracking.location import AUTO, locate_optional_store
from dqnkit.tracking.names import Artifact
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import PolicySource, find_policy
from dqnkit.tracking.store import RunStore

if TYPE_CHECKING:  # imports TensorFlow, which takes seconds
    from dqnkit.analysis.playback import Player
    from dqnkit.analysis.recording import RecordedPlayer

_MAX_FPS = 240.0


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Contents of a video.

    Raises:
      ArgumentError: If a number is out of range.
    """

    episodes: int
    """Number of episodes."""
    seed: int
    """Seed of the episodes."""
    fps: float | None
    """Frames per second, of which each shows one step; None takes the environment's own rate."""
    max_steps: int | None
    """Number of steps after which an episode is cut off; None takes that of evaluation."""
    overlay: bool
    """True to draw episode, step, return and Q-values next to the frame."""
    baseline: Literal["random"] | None
    """`random` shows uniformly random actions at the right, from the same initial states."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("episodes", self.episodes, 1, 10_000),
            ("seed", self.seed, 0, 2**63 - 1),
            ("fps", self.fps, 0.1, _MAX_FPS),
            ("max_steps", self.max_steps, 1, 10**9),
        ):
            # Comparisons with NaN are false.
            if value is not None and not low <= value <= high:
                raise ArgumentError(name, value, f"expected a number from {low:,} to {high:,}")
        if self.baseline not in {None, "random"}:
            raise ArgumentError("baseline", self.baseline, "expected random")


@dataclass(frozen=True)
class Video:
    """A video of a policy."""

    label: str
    """Name of the run, or the reference to a policy whose run is not known."""
    env_id: str
    path: Path | None
    """Path of the file; None if it is not on this machine."""
    artifact: str | None
    """Path among the run's artifacts; None if it is not recorded."""
    frames: int
    """Number of frames in the file."""
    fps: float
    """Frames per second of the file."""
    returns: dict[str, list[float]]
    """Undiscounted return of each episode, by the name of the agent: `trained` or `random`."""
    run: RecordedRun | None
    """Run that records it; None for the folder of a policy, whose run is not known."""
    problems: list[str] = field(default_factory=list)
    """Descriptions of what could not be recorded, and of a video that shows nothing."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return {
            "policy": self.label,
            "run_id": self.run.id if self.run else None,
            "env": self.env_id,
            "path": str(self.path) if self.path else None,
            "artifact": self.artifact,
            "frames": self.frames,
            "fps": self.fps,
            "seconds": self.frames / self.fps,
            "returns": self.returns,
            "problems": self.problems,
        }


def render(  # noqa: PLR0913 - keywords are what a notebook types
    run: str,
    *,
    episodes: int = 1,
    seed: int = 0,
    fps: float | None = None,
    max_steps: int | None = None,
    overlay: bool = True,
    baseline: Literal["random"] | None = None,
    output: Path | str | None = None,
    video_format: VideoFormat | None = None,
    tracking_uri: str | None = AUTO,
    listener: Listener = ignore,
) -> Video:
    """Render a saved policy as a video, and add the video to the run that trained it.

    Args:
      run: Reference to the run (`dqnkit.tracking.references.FORMS`), or the folder of a policy.
      episodes: Number of episodes.
      seed: Seed of the episodes, none of which training has played.
      fps: Frames per second, of which each shows one step; None takes the environment's own rate.
      max_steps: Number of steps after which an episode is cut off; None takes that of evaluation.
      overlay: True to draw episode, step, return and Q-values next to the frame.
      baseline: `random` shows uniformly random actions at the right, from the same initial states.
      output: Path of the file. By default, the video of a run is only an artifact, and that of a
        folder is written into the working directory.
      video_format: Format; by default that of `output`'s name, or else mp4.
      tracking_uri: URI of the store; None records nothing, and needs the folder of a policy.
      listener: Receives `EpisodesPlayed` after each episode, and `Warned`.

    Raises:
      ConfigError: If the reference is wrong, the run has no policy, or the file cannot be written.
      UnsupportedEnvironmentError: If the environment is not installed, or cannot draw.
      PolicyError: If files of the policy are damaged.
      RenderingError: If the video cannot be encoded.
      TrackingError: If the store cannot be read.
    """
    options = VideoOptions(
        episodes=episodes,
        seed=seed,
        fps=fps,
        max_steps=max_steps,
        overlay=overlay,
        baseline=baseline,
    )
    output = Path(output) if output is not None else None
    suffix = _suffix(output, video_format)
    folder = Path.cwd()  # environments may change it
    location = locate_optional_store(tracking_uri)
    store = RunStore(location) if location else None
    with kept_working_directory(), tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        source = find_policy(store, run, Path(scratch))
        config, spec = resolve(source.folder.config)
        if source.run is None or store is None:
            path = output or _file_name(spec, options, suffix)
            video = _make(source, config, spec, options, folder / path, listener)
            for problem in video.problems:
                listener(Warned(problem))
            return replace(video, path=path)
        artifact = f"{Artifact.VIDEOS}/{_artifact_name(options)}{suffix}"
        files = Path(scratch) / "files"
        path = folder / output if output else files / artifact
        video = _make(source, config, spec, options, path, listener)
        if output is not None:
            (files / artifact).parent.mkdir(parents=True)
            shutil.copyfile(path, files / artifact)
        failures = store.add(source.run, files=files)
        if failures and output is None:  # the video is worth keeping
            output = Path(path.name)
            shutil.move(path, folder / output)
    problems = video.problems + failures
    for problem in problems:
        listener(Warned(problem))
    kept = output or store.local_path(source.run, artifact)
    return replace(video, path=kept, artifact=None if failures else artifact, problems=problems)


def _file_name(spec: EnvSpec, options: VideoOptions, suffix: str) -> Path:
    env_id = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.id)
    return Path(f"{env_id}-s{options.seed}{suffix}")


def _artifact_name(options: VideoOptions) -> str:
    """Return a name that differs between all videos of a run, without its suffix."""
    parts = [
        "policy-and-random" if options.baseline else "policy",
        f"s{options.seed}",
        f"{options.episodes}ep",
        f"{options.max_steps}steps" if options.max_steps else "",
        f"{options.fps:g}fps" if options.fps else "",
        "" if options.overlay else "plain",
    ]
    return "-".join(part for part in parts if part)


def _suffix(output: Path | None, video_format: VideoFormat | None) -> str:
    """Return the suffix of the file.

    Raises:
      ArgumentError: If the name of `output` does not fit the format.
    """
    known = get_args(VideoFormat)
    if output is None:
        return f".{video_format or 'mp4'}"
    suffix = output.suffix.lower()
    if suffix.removeprefix(".") not in known or (video_format and suffix != f".{video_format}"):
        wanted = f".{video_format}" if video_format else " or ".join(f".{each}" for each in known)
        raise ArgumentError("output", output, f"the name of the file must end in {wanted}")
    return output.suffix


def _make(
    source: PolicySource,
    config: Config,
    spec: EnvSpec,
    options: VideoOptions,
    path: Path,
    listener: Listener,
) -> Video:
    """Play the episodes, and write them to a file."""
    with ExitStack() as stack:
        # Loading the policy takes seconds, so it comes after everything that may be refused.
        environments = [
            stack.enter_context(closing(RenderedEnvironment(config.evaluation_env, spec)))
            for _ in range(2 if options.baseline else 1)
        ]
        fps = options.fps or min(environments[0].fps, _MAX_FPS)
        writer = stack.enter_context(open_video(path, fps))
        from dqnkit.analysis.recording import Recorder

        recorder = Recorder(
            writer, _make_players(source, spec, options, environments), overlay=options.overlay
        )
        max_steps = options.max_steps or config.evaluation.max_episode_steps
        recorder.record(_initial_seeds(config, options), max_steps, listener)
    frames, fps, returns = writer.file_frames, writer.file_fps, recorder.returns
    problems = []
    if recorder.color is not None:
        problems.append(
            f"every frame of {spec.id!r} has the one colour {recorder.color}: its render method "
            "draws nothing, perhaps for want of a display or of an argument in env.kwargs"
        )
    return Video(
        source.label, spec.id, path, None, frames, fps, returns, source.run, problems=problems
    )


def _make_players(
    source: PolicySource,
    spec: EnvSpec,
    options: VideoOptions,
    environments: Sequence[RenderedEnvironment],
) -> list[RecordedPlayer]:
    from dqnkit.agents.policies import SavedPolicy
    from dqnkit.analysis.playback import GreedyPlayer, RandomPlayer
    from dqnkit.analysis.recording import RecordedPlayer

    policy = SavedPolicy(source.folder.saved_model, spec)
    players: dict[str, Player] = {"trained": GreedyPlayer(policy)}
    if options.baseline:
        players["random"] = RandomPlayer(spec.num_actions, rendering_keys(options.seed).steps)
    return [
        RecordedPlayer(
            name, environment, player, Panel(name, environment.action_names, options.episodes)
        )
        for (name, player), environment in zip(players.items(), environments, strict=True)
    ]


def _initial_seeds(config: Config, options: VideoOptions) -> list[int]:
    """Return the seed of each episode's initial state; none of them was used in training."""
    avoided = training_environment_seeds(config.training.seed, config.env.num_envs)
    key = rendering_keys(options.seed).resets
    return stream_seeds(key, 0, options.episodes, frozenset(avoided))
