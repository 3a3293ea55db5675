"""`dqnkit tune`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cli import options


def tune(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="A committed experiment (see `dqnkit experiments`) or a YAML file, whose `search` "
            "says what may change. Default: the study's, else cartpole.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(metavar="N", help="Trials that are to end, complete or pruned.")
    ] = 50,
    env: options.Env = None,
    assignments: options.Assignments = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Seed of every trial, and of what the sampler draws. Default: the experiment's.",
            show_default=False,
        ),
    ] = None,
    workers: options.Workers = None,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Go on with this study, or begin it. Default: the last of this experiment that "
            "was interrupted, else a new one.",
            show_default=False,
        ),
    ] = None,
    storage: options.Storage = None,
    sampler: Annotated[
        Literal["tpe", "random", "gp", "cmaes", "grid"],
        typer.Option(help="How parameters are chosen."),
    ] = "tpe",
    pruner: Annotated[
        Literal["hyperband", "median", "wilcoxon", "none"],
        typer.Option(help="How hopeless trials are ended early; wilcoxon compares seed by seed."),
    ] = "hyperband",
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="When no further trial is begun; those that run end, and are confirmed.",
            show_default=False,
        ),
    ] = None,
    seeds_per_trial: Annotated[
        int, typer.Option(metavar="S", help="Trainings a trial; its value is their IQM.")
    ] = 1,
    confirm: Annotated[
        int,
        typer.Option(metavar="K", help="Best trials that are trained again on 5 fresh seeds each."),
    ] = 3,
    launcher: options.Launcher = "local",
    ray_address: options.RayAddress = None,
    cpus: options.Cpus = 1.0,
    gpus: options.Gpus = 0.0,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search learning rate, layer sizes, batch size and more; confirm the winner on fresh seeds."""
    from cli import output  # `--help` waits for nothing that a search needs
    from cli.displays import search
    from cli.loading import experiment_config
    from cli.loading import options as option_values
    from dqnkit.config import loading
    from dqnkit.tuning.options import TuneOptions
    from dqnkit.tuning.search import stored_experiment
    from dqnkit.tuning.search import tune as run_search
    from dqnkit.workers.placement import Placement

    chosen = TuneOptions(
        trials=trials,
        workers=workers,
        study=study,
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        timeout=timeout,
        seeds_per_trial=seeds_per_trial,
        confirm=confirm,
        launch=Placement(launcher=launcher, ray_address=ray_address, cpus=cpus, gpus=gpus),
    )
    config = None
    if study is not None and experiment is None and env is None:
        config = stored_experiment(study, storage)
        if config is not None:
            config = loading.override(config, option_values(None, seed), assignments or [])
    if config is None:
        config = experiment_config(experiment, env, seed, assignments)
    with (
        output.stdout_for_the_document(as_json=as_json),
        search.for_search(as_json=as_json, quiet=quiet) as reporter,
    ):
        result = run_search(config, chosen, tracking_uri=tracking_uri, reporter=reporter)
    search.search_result(result, as_json=as_json, quiet=quiet)
