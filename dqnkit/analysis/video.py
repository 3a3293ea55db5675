"""A video of a trained policy, alone or beside random actions."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dqnkit.analysis.panel import Panel, fitted, scaled
from dqnkit.analysis.video_file import VideoFormat, VideoWriter
from dqnkit.config.sections import Config
from dqnkit.config.seeds import rendering_keys, stream_seeds, training_environment_seeds
from dqnkit.envs.rendering import RenderedEnvironment
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ArgumentError
from dqnkit.tracking.location import AUTO, locate_store
from dqnkit.tracking.names import Artifact
from dqnkit.tracking.recorded_run import RecordedRun
from dqnkit.tracking.references import PolicySource, find_policy
from dqnkit.tracking.store import RunStore

if TYPE_CHECKING:  # imports TensorFlow, which waits until the policy is found
    from dqnkit.analysis.playback import Player, RenderedStep

_HOLD_SECONDS = 0.8
"""How long an episode's last frame stands, so that one sees how it ended."""
_GAP = 8
"""Pixels between two agents."""
_MAX_FPS = 240.0


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What a video shows, and how.

    Raises:
      ConfigError: A number is out of its range.
    """

    episodes: int = 1
    seed: int = 0
    fps: float | None = None
    """Frames a second, one a step; None goes at the environment's own pace."""
    max_steps: int | None = None
    """Where an episode is broken off; None where evaluation breaks it off."""
    overlay: bool = True
    """Draw episode, step, return and Q-values beside the frame."""
    baseline: Literal["random"] | None = None
    """`random` shows uniformly random actions at the right, from the same initial states."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("episodes", self.episodes, 1, 10_000),
            ("seed", self.seed, 0, 2**63 - 1),
            ("fps", self.fps, 0.1, _MAX_FPS),
            ("max_steps", self.max_steps, 1, 10**9),
        ):
            # A NaN is in no range.
            if value is not None and not low <= value <= high:
                raise ArgumentError(name, value, f"expected a number from {low:,} to {high:,}")


DEFAULT_OPTIONS = VideoOptions()


@dataclass(frozen=True)
class Video:
    """A video that was made."""

    label: str
    env_id: str
    path: Path | None
    """The file, if one stands on this machine."""
    artifact: str | None
    """Its path among the run's artifacts."""
    frames: int
    fps: float
    returns: dict[str, list[float]]
    """Of each episode, by agent."""
    run: RecordedRun | None
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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


def render(
    run: str,
    options: VideoOptions = DEFAULT_OPTIONS,
    *,
    output: Path | str | None = None,
    video_format: VideoFormat | None = None,
    tracking_uri: str | None = AUTO,
) -> Video:
    """Play a saved policy, and write a video of it frame by frame.

    Args:
      run: Reference to the run (`dqnkit.tracking.references.FORMS`), or the folder of a policy.
      options: Contents of the video.
      output: Path of the file. By default, the video of a run is only an artifact, and that of a
        folder is written into the working directory.
      video_format: Format; by default that of `output`'s name, or else mp4.
      tracking_uri: URI of the store; None records nothing, and needs the folder of a policy.

    Raises:
      ConfigError: If the reference is wrong, the run has no policy, or the file cannot be written.
      UnsupportedEnvironmentError: If the environment is not installed, or cannot draw.
      PolicyError: If files of the policy are damaged.
      RenderingError: If the video cannot be encoded.
    """
    output = Path(output) if output is not None else None
    suffix = _suffix(output, video_format)
    store = None if tracking_uri is None else RunStore(locate_store(tracking_uri))
    with tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        source = find_policy(store, run, Path(scratch))
        config, spec = resolve(source.folder.config)
        artifact = f"{Artifact.VIDEOS}/{_name(options)}{suffix}"
        files = Path(scratch) / "files"
        path = output
        if path is None:
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.id)
            path = files / artifact if source.run else Path(f"{name}-s{options.seed}{suffix}")
        video = _write(source, config, spec, options, path)
        if source.run is None or store is None:
            return video
        if output is not None:
            (files / artifact).parent.mkdir(parents=True)
            shutil.copyfile(output, files / artifact)
        problems = store.add(source.run, files=files)
        if problems and output is None:  # a video that nobody keeps was drawn for nothing
            output = Path(shutil.move(path, Path(artifact).name))
    kept = output or store.local_path(source.run, artifact)
    recorded = None if problems else artifact
    return replace(video, path=kept, artifact=recorded, problems=problems)


def _name(options: VideoOptions) -> str:
    """What tells a run's videos apart."""
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
    known = get_args(VideoFormat)
    if output is None:
        return f".{video_format or 'mp4'}"
    suffix = output.suffix.lower()
    if suffix.removeprefix(".") not in known or (video_format and suffix != f".{video_format}"):
        wanted = f".{video_format}" if video_format else " or ".join(f".{each}" for each in known)
        raise ArgumentError("output", output, f"the name of the file must end in {wanted}")
    return output.suffix


@dataclass(frozen=True)
class _Agent:
    """Who plays where, drawn how."""

    name: str
    environment: RenderedEnvironment
    actor: Player
    panel: Panel


def _write(
    source: PolicySource, config: Config, spec: EnvSpec, options: VideoOptions, path: Path
) -> Video:
    with ExitStack() as stack:
        # What is slow comes after what may be refused.
        environments = [
            stack.enter_context(
                closing(RenderedEnvironment(config.env, spec, config.evaluation.wrappers))
            )
            for _ in range(2 if options.baseline else 1)
        ]
        fps = options.fps or environments[0].fps
        writer = stack.enter_context(VideoWriter(path, fps))
        agents = _agents(source, spec, options, environments)
        returns: dict[str, list[float]] = {agent.name: [] for agent in agents}
        size: tuple[int, ...] = ()
        for moments in _moments(config, options, agents):
            for agent, moment in zip(agents, moments, strict=True):
                if moment.ending and len(returns[agent.name]) < moment.episode:
                    returns[agent.name].append(moment.episode_return)
            picture = _picture(agents, moments, overlay=options.overlay)
            size = size or picture.shape[:2]  # whatever becomes of the frames, a video has one
            over = all(moment.ending for moment in moments)
            for _ in range(1 + round(_HOLD_SECONDS * fps) if over else 1):
                writer.write(fitted(picture, *size))
    return Video(source.label, spec.id, path, None, writer.frames, fps, returns, source.run)


def _agents(
    source: PolicySource,
    spec: EnvSpec,
    options: VideoOptions,
    environments: list[RenderedEnvironment],
) -> list[_Agent]:
    from dqnkit.agents.policies import SavedPolicy  # seconds
    from dqnkit.analysis.playback import GreedyPlayer, RandomPlayer

    policy = SavedPolicy(source.folder.saved_model, spec)
    actors: dict[str, Player] = {"trained": GreedyPlayer(policy)}
    if options.baseline:
        actors["random"] = RandomPlayer(spec.num_actions, rendering_keys(options.seed).steps)
    return [
        _Agent(name, environment, actor, Panel(name, environment.action_names, options.episodes))
        for (name, actor), environment in zip(actors.items(), environments, strict=True)
    ]


def _moments(
    config: Config, options: VideoOptions, agents: list[_Agent]
) -> Iterator[list[RenderedStep]]:
    """What all agents see at once; who is done first waits at the last frame for the others."""
    from dqnkit.analysis.playback import play  # imports TensorFlow

    limit = options.max_steps or config.evaluation.max_episode_steps
    avoided = training_environment_seeds(config.training.seed, config.env.num_envs)
    key = rendering_keys(options.seed).resets
    seeds = stream_seeds(key, 0, options.episodes, frozenset(avoided))
    for episode, seed in enumerate(seeds, start=1):
        playing = [play(agent.environment, agent.actor, episode, seed, limit) for agent in agents]
        last: list[RenderedStep] = []
        for moments in zip_longest(*playing):
            last = [new or old for new, old in zip_longest(moments, last)]
            yield last


def _picture(agents: list[_Agent], moments: list[RenderedStep], *, overlay: bool) -> np.ndarray:
    drawn = [
        agent.panel.draw(moment) if overlay else scaled(moment.frame)
        for agent, moment in zip(agents, moments, strict=True)
    ]
    height = max(picture.shape[0] for picture in drawn)
    gap = np.zeros((height, _GAP, 3), np.uint8)
    level = [fitted(picture, height, picture.shape[1]) for picture in drawn]
    return np.concatenate([part for picture in level for part in (gap, picture)][1:], axis=1)
