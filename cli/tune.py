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
            "section lists the keys to search. Default: that of the study, or else cartpole.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of complete and pruned trials after which the search ends."
        ),
    ] = 50,
    env: options.Env = None,
    assignments: options.Assignments = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Seed of every trial and of the sampler. Default: that of the experiment.",
            show_default=False,
        ),
    ] = None,
    workers: options.Workers = None,
    study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the study to continue or create. Default: the last interrupted study of "
            "this experiment, or else a new one.",
            show_default=False,
        ),
    ] = None,
    storage: options.Storage = None,
    sampler: Annotated[
        Literal["tpe", "random", "gp", "cmaes", "grid"],
        typer.Option(help="Algorithm that chooses the values of each trial."),
    ] = "tpe",
    pruner: Annotated[
        Literal["hyperband", "median", "wilcoxon", "none"],
        typer.Option(
            help="Rule that ends unpromising trials early; wilcoxon compares trials seed by seed."
        ),
    ] = "hyperband",
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time after which no more trials start. Running trials are completed, and the "
            "best trials are confirmed.",
            show_default=False,
        ),
    ] = None,
    seeds_per_trial: Annotated[
        int,
        typer.Option(
            metavar="S", help="Number of seeds per trial; their IQM is the value of the trial."
        ),
    ] = 1,
    confirm: Annotated[
        int,
        typer.Option(
            metavar="K", help="Number of best trials that are trained again on 5 fresh seeds each."
        ),
    ] = 3,
    retrain_repeats: Annotated[
        bool,
        typer.Option(
            "--retrain-repeats",
            help="Train trials whose values an earlier trial had, instead of taking its result.",
        ),
    ] = False,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            help="Make the winner the champion, or leave the champion as it is. Default: the one "
            "with the higher confirmed score, in the same environment.",
            show_default=False,
        ),
    ] = None,
    launcher: options.Launcher = "local",
    ray_address: options.RayAddress = None,
    cpus: options.Cpus = 1.0,
    gpus: options.Gpus = 0.0,
    tracking_uri: options.TrackingUri = options.AUTO,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search learning rate, layer sizes, batch size and more; confirm the best on fresh seeds."""
    from cli import output  # deferred, so that `--help` is quick
    from cli.displays import search
    from cli.loading import experiment_config, option_overrides
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
        retrain_repeats=retrain_repeats,
        promote=promote,
        placement=Placement(launcher=launcher, ray_address=ray_address, cpus=cpus, gpus=gpus),
    )
    config = None
    if study is not None and experiment is None and env is None:
        config = stored_experiment(study, storage)
        if config is not None:
            config = loading.override(config, option_overrides(None, seed, assignments))
    if config is None:
        config = experiment_config(experiment, env, seed, assignments)
    with (
        output.reserve_stdout(as_json=as_json),
        search.displayed(as_json=as_json, quiet=quiet) as display,
    ):
        result = run_search(config, chosen, tracking_uri=tracking_uri, listener=display)
    search.print_result(result, as_json=as_json, quiet=quiet)
