"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

AUTO = "auto"
"""Default of --tracking-uri: MLFLOW_TRACKING_URI, or else the embedded store."""

RUN_HELP = (
    "A run's id or the start of one, a run's name, latest, latest:EXPERIMENT, best, "
    "best:EXPERIMENT, models:/NAME@ALIAS or models:/NAME/VERSION"
)
"""`dqnkit.tracking.references.FORMS`, whose import takes time."""

_WORKERS = "Workers"
"""Panel of the options about workers, in the help of commands that start them."""

Policy = Annotated[
    str,
    typer.Argument(metavar="RUN", help=f"{RUN_HELP}, or a policy's folder.", show_default=False),
]
Experiment = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPERIMENT",
        help="A committed experiment (see `dqnkit experiments`) or a YAML file. Default: cartpole.",
        show_default=False,
    ),
]
Baseline = Annotated[
    Literal["random"] | None,
    typer.Option(help="Also evaluate a uniformly random policy.", show_default=False),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Change one key of the configuration, e.g. optimizer.learning_rate=1e-4. "
        "May be given several times; later ones win.",
        show_default=False,
    ),
]
Env = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Gymnasium id of the environment. Without EXPERIMENT, it chooses the experiment.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=_WORKERS,
        help="Number of processes that train in parallel. Default: one per core, or as many as the "
        "Ray cluster has room for.",
        show_default=False,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Database of studies, e.g. postgresql+psycopg://… or sqlite:///…. Default: "
        "DQNKIT_STORAGE, or else the embedded storage under mlruns/studies.",
        show_default=False,
    ),
]
Launcher = Annotated[
    Literal["local", "ray"],
    typer.Option(
        rich_help_panel=_WORKERS,
        help="Kind of workers: processes of this machine, or tasks of a Ray cluster.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        rich_help_panel=_WORKERS,
        help="Address of a Ray cluster. Default: RAY_ADDRESS, or else the cluster that runs on "
        "this machine, or else one that runs as long as the command.",
        show_default=False,
    ),
]
Cpus = Annotated[
    float,
    typer.Option(metavar="N", rich_help_panel=_WORKERS, help="CPUs per worker on a Ray cluster."),
]
Gpus = Annotated[
    float,
    typer.Option(
        metavar="N",
        rich_help_panel=_WORKERS,
        help="GPUs that Ray reserves per worker. dqnkit itself trains on the CPU.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.")]
TrackingUri = Annotated[
    str,
    typer.Option(
        metavar="URI",
        help="MLflow store: http(s)://…, sqlite:///…, or a folder. Default: MLFLOW_TRACKING_URI, "
        "or else the embedded store under mlruns/.",
        show_default=False,
    ),
]
