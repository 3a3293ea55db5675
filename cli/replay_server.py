"""`dqnkit replay-server` and `dqnkit actor`: training on several hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import options


def replay_server(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Experiment of the learner, which determines the layout of a transition, how "
            "many are kept, and how they are sampled. Default: tutorial-reverb.",
            show_default=False,
        ),
    ] = None,
    env: options.Env = None,
    assignments: options.Assignments = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="Address to listen at: 127.0.0.1 for this machine only, 0.0.0.0 for all of its "
            "networks. Reverb has no authentication.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65_535,
            help="Port to listen at. Default: a free one.",
            show_default=False,
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Folder for checkpoints of the replay, written whenever the learner writes one, "
            "and at the end. The server starts from the newest one.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the replay of a learner and its actors through Reverb, until Ctrl-C."""
    import threading

    from cli.loading import experiment_config
    from cli.output import say, waiting
    from dqnkit._system.extras import check_installed
    from dqnkit._system.files import kept_working_directory
    from dqnkit.envs.resolution import resolve

    check_installed("dqnkit replay-server")
    if experiment is None and env is None:
        experiment = "tutorial-reverb"
    with kept_working_directory():
        config, spec = resolve(experiment_config(experiment, env, None, assignments))
    with waiting("starting Reverb's server", shown=True):
        from dqnkit.reverb.server import EVERYWHERE, serve_experiment  # takes seconds
    with serve_experiment(config, spec, host=host, port=port, checkpoints=checkpoints) as server:
        try:
            shown_host = "HOST" if host in EVERYWHERE else "127.0.0.1"
            say(
                f"replay.address={shown_host}:{server.port} keeps {server.num_transitions:,} "
                "transitions"
            )
            say("Ctrl-C ends it")
            threading.Event().wait()
        except KeyboardInterrupt:
            if path := server.checkpoint():
                say(f"{server.num_transitions:,} transitions are kept in {path}")
            say("ended")


def actor(
    connect: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Address of the replay server.", show_default=False),
    ],
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="Time to wait for a server that does not answer, or for the learner to start.",
        ),
    ] = 60.0,
) -> None:
    """Collect experience for a learner, with its newest weights, until its training ends."""
    import secrets

    from cli.output import say, waiting
    from dqnkit._system.extras import check_installed
    from dqnkit.config.sections import is_address
    from dqnkit.errors import ArgumentError

    check_installed("dqnkit actor")
    if not is_address(connect):
        raise ArgumentError(
            "connect", connect, "give HOST:PORT, as `dqnkit replay-server` prints it"
        )
    with waiting("loading TensorFlow", shown=True):
        from dqnkit.reverb.actor import act
    # Numbers from 0 on belong to the actors that a learner starts itself.
    act(connect, secrets.randbelow(2**32) + 2**32, patience=patience, report=say)
