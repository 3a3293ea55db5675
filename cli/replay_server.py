"""`dqnkit replay-server` and `dqnkit actor`: the parts of a training that is on several hosts."""

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
            help="What is trained: decides what a transition is, how many are kept, and how they "
            "are drawn. Default: tutorial-reverb.",
            show_default=False,
        ),
    ] = None,
    env: options.Env = None,
    assignments: options.Assignments = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="127.0.0.1 for this machine alone, 0.0.0.0 for every network that it is in; "
            "Reverb asks nobody for a password.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1, max=65_535, help="Default: a free one.", show_default=False
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Write checkpoints here: with those of the learner, and at the end. What the "
            "newest one holds, the server begins with.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Keep experience for a learner and its actors in Reverb, until Ctrl-C."""
    import threading

    from cli.loading import experiment_config
    from cli.output import say, waiting
    from dqnkit._system.extras import check_installed
    from dqnkit.envs.resolution import resolve

    check_installed("dqnkit replay-server")
    if experiment is None and env is None:
        experiment = "tutorial-reverb"
    config, spec = resolve(experiment_config(experiment, env, None, assignments))
    with waiting("starting Reverb's server", shown=True):
        from dqnkit.reverb.server import EVERYWHERE  # takes seconds
        from dqnkit.reverb.serving import serving
    with serving(config, spec, host=host, port=port, folder=checkpoints) as served:
        try:
            where = "HOST" if host in EVERYWHERE else "127.0.0.1"
            kept = served.num_transitions
            say(f"replay.address={where}:{served.port} keeps {kept:,} transitions")
            say("Ctrl-C ends it")
            threading.Event().wait()
        except KeyboardInterrupt:
            if written := served.checkpoint():
                say(f"{served.num_transitions:,} transitions are kept in {written}")
            say("ended")


def actor(
    connect: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of the replay server.", show_default=False)
    ],
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="How long to wait for a server that does not answer, or a learner that has not "
            "come.",
        ),
    ] = 60.0,
) -> None:
    """Collect experience for the learner of a run, with its newest weights, until it is done."""
    import secrets

    from cli.output import say, waiting
    from dqnkit._system.extras import check_installed
    from dqnkit.config.sections import is_address
    from dqnkit.errors import ConfigError

    check_installed("dqnkit actor")
    if not is_address(connect):
        raise ConfigError(f"--connect {connect}: give HOST:PORT, as `dqnkit replay-server` says it")
    with waiting("loading TensorFlow", shown=True):
        from dqnkit.reverb.actor import act
    # The actors that a learner starts itself count from 0.
    act(connect, secrets.randbelow(2**32) + 2**32, patience=patience, tell=say)
