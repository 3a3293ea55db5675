"""`dqnkit train`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options


def train(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="A committed experiment (see `dqnkit experiments`) or a YAML file. "
            "Default: cartpole.",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Gymnasium id of the environment. Alone, it picks the experiment for it.",
            show_default=False,
        ),
    ] = None,
    assignments: options.Assignments = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the run; the same one gives the same curve.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the run in MLflow.")
    ] = None,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a DQN, evaluate it as it learns, and record it all in MLflow."""
    from cli import display, output  # `--help` waits for nothing that training needs
    from dqnkit import experiments
    from dqnkit.resolution import resolve
    from dqnkit.tracking import open_tracker

    given = {}
    if env is not None:
        given["env.id"] = experiments.Option(f"--env {env}", env)
    if seed is not None:
        given["training.seed"] = experiments.Option(f"--seed {seed}", seed)
    if experiment is None and env is not None:
        config = experiments.for_environment(env, assignments or [], given)
    else:
        config = experiments.load(
            experiment or experiments.DEFAULT_EXPERIMENT, assignments or [], given
        )
    with output.stdout_for_the_document(as_json=as_json):
        config, _ = resolve(config)  # a mistake is told before TensorFlow is loaded
        tracker = open_tracker(config, tracking_uri)
        with display.for_training(as_json=as_json, quiet=quiet) as reporter:
            from dqnkit.training.run import train as run_training  # takes seconds

            result = run_training(config, tracker, reporter, run_name=name)
    display.training_result(result, as_json=as_json, quiet=quiet)
