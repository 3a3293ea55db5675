"""`dqnkit render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import options


def render(
    run: options.Policy,
    episodes: Annotated[int, typer.Option(metavar="N", help="Number of episodes.")] = 1,
    video_format: Annotated[
        Literal["mp4", "gif"] | None,
        typer.Option(
            "--format",
            help="Format of the video. Default: that of --output, or else mp4.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write the video to. A run keeps its videos as artifacts in any case.",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="Frames per second. Default: those of the environment.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Seed of the episodes, none of which training has played."),
    ] = 0,
    max_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of steps after which an episode is cut off. Default: that of evaluation.",
            show_default=False,
        ),
    ] = None,
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay/--no-overlay", help="Draw step, return and Q-values beside the frame."
        ),
    ] = True,
    baseline: options.Baseline = None,
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render a video of a trained policy; no display is needed."""
    from cli import output as printing
    from dqnkit.analysis.video import render as run_rendering

    with (
        printing.reserve_stdout(as_json=as_json),
        printing.waiting("rendering the video", shown=not quiet),
    ):
        video = run_rendering(
            run,
            episodes=episodes,
            seed=seed,
            fps=fps,
            max_steps=max_steps,
            overlay=overlay,
            baseline=baseline,
            output=output,
            video_format=video_format,
            tracking_uri=tracking_uri,
        )
    printing.warn(video.problems)
    if as_json:
        printing.say_document(video.as_dict())
    elif not quiet:
        seconds = video.frames / video.fps
        printing.say(f"{video.label} · {video.env_id} · seed {seed}")
        for name, returns in video.returns.items():
            printing.say(f"{name:<10}return {', '.join(f'{value:.1f}' for value in returns)}")
        printing.say(f"{'video':<10}{video.frames:,} frames, {seconds:.1f} s at {video.fps:g} fps")
        if video.path is not None:
            printing.say(f"{'file':<10}{video.path}")
        if video.run is not None and video.artifact is not None:
            printing.say(f"{'artifact':<10}{video.artifact} of the run {video.run.label}")
