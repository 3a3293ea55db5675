"""`dqnkit train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dqnkit.config.sections import Config
    from dqnkit.workers.seeds import SeedsOptions


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
    env: options.Env = None,
    assignments: options.Assignments = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Seed of the run; the same one gives the same curve.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Train with K seeds, from the run's own upwards, side by side, and aggregate.",
            show_default=False,
        ),
    ] = None,
    workers: options.Workers = None,
    actors: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Collect in N processes apart from the learner, through Reverb "
            "(replay.kind=reverb); 0 leaves it to `dqnkit actor` on other hosts.",
            show_default=False,
        ),
    ] = None,
    from_study: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Train the winner of a study (`dqnkit tune`).", show_default=False
        ),
    ] = None,
    storage: options.Storage = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the run in MLflow.", show_default=False),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run that ended before its time, from its last checkpoint.",
            show_default=False,
        ),
    ] = None,
    launcher: options.Launcher = "local",
    ray_address: options.RayAddress = None,
    cpus: options.Cpus = 1.0,
    gpus: options.Gpus = 0.0,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a DQN, evaluate it as it learns, and record it all in MLflow."""
    from cli.loading import experiment_config  # `--help` waits for nothing that training needs
    from dqnkit.errors import ConfigError

    if resume is not None:
        given = {
            "EXPERIMENT": experiment,
            "--env": env,
            "--set": assignments,
            "--seed": seed,
            "--seeds": seeds,
            "--workers": workers,
            "--actors": actors,
            "--from-study": from_study,
            "--storage": storage,
            "--name": name,
            "--launcher": None if launcher == "local" else launcher,
        }
        _resume(resume, given, tracking_uri, as_json=as_json, quiet=quiet)
        return
    if actors is not None:
        assignments = [f"training.num_actors={actors}", *(assignments or [])]
    several = f"--workers {workers}" if workers is not None else f"--launcher {launcher}"
    if several != "--launcher local" and seeds is None:
        raise ConfigError(f"{several}: one run has one process; give --seeds K as well")
    if from_study is None:
        if storage is not None:
            raise ConfigError("--storage: names where --from-study looks; give that as well")
        config = experiment_config(experiment, env, seed, assignments)
    else:
        config = _winner(from_study, storage, experiment, env, seed, assignments)
    if seeds is None:
        _train_one(config, name, tracking_uri, as_json=as_json, quiet=quiet)
    else:
        from dqnkit.workers.placement import Placement
        from dqnkit.workers.seeds import SeedsOptions

        launch = Placement(launcher=launcher, ray_address=ray_address, cpus=cpus, gpus=gpus)
        chosen = SeedsOptions(count=seeds, workers=workers, run_name=name, launch=launch)
        _train_seeds(config, chosen, tracking_uri, as_json=as_json, quiet=quiet)


def _winner(
    study: str,
    storage: str | None,
    experiment: str | None,
    env: str | None,
    seed: int | None,
    assignments: list[str] | None,
) -> Config:
    from cli.loading import options as option_values
    from dqnkit.config import loading
    from dqnkit.errors import ConfigError
    from dqnkit.tuning import storage as storages
    from dqnkit.tuning.study import winner

    if experiment is not None or env is not None:
        given = experiment or f"--env {env}"
        raise ConfigError(f"--from-study {study} names what is trained, and so does {given}")
    text = winner(storages.resolve(storage), study)
    config = loading.load_recorded(text, f"the winner of {study}")
    return loading.override(config, option_values(None, seed), assignments or [])


def _resume(
    reference: str,
    given: Mapping[str, object],
    tracking_uri: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from cli import output
    from cli.displays import training
    from dqnkit.errors import ConfigError
    from dqnkit.runs.resumption import find
    from dqnkit.tracking import location, make_tracker
    from dqnkit.tracking.store import RunStore

    also = [name for name, value in given.items() if value is not None]
    if also:
        raise ConfigError(
            f"--resume {reference}: a run goes on as it was begun, so {', '.join(also)} cannot be "
            "given too; to train with other settings, begin a new run"
        )
    with output.stdout_for_the_document(as_json=as_json):
        resumption = find(RunStore(location.locate_store(tracking_uri)), reference)
        tracker = make_tracker(resumption.config, tracking_uri)
        with training.for_training(as_json=as_json, quiet=quiet) as reporter:
            from dqnkit.runs.trainer import resume  # takes seconds

            result = resume(resumption, tracker, reporter)
    training.training_result(result, as_json=as_json, quiet=quiet)


def _train_one(
    config: Config, name: str | None, tracking_uri: str | None, *, as_json: bool, quiet: bool
) -> None:
    from cli import output
    from cli.displays import training
    from dqnkit.envs.resolution import resolve
    from dqnkit.tracking import make_tracker

    with output.stdout_for_the_document(as_json=as_json):
        config, _ = resolve(config)  # a mistake is told before TensorFlow is loaded
        tracker = make_tracker(config, tracking_uri)
        with training.for_training(as_json=as_json, quiet=quiet) as reporter:
            from dqnkit.runs.trainer import train as run_training  # takes seconds

            result = run_training(config, tracker, reporter, run_name=name)
    training.training_result(result, as_json=as_json, quiet=quiet)


def _train_seeds(
    config: Config,
    options: SeedsOptions,
    tracking_uri: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from cli import output
    from cli.displays import seeds
    from dqnkit.workers.seeds import train_seeds

    with (
        output.stdout_for_the_document(as_json=as_json),
        seeds.for_seeds(as_json=as_json, quiet=quiet) as reporter,
    ):
        result = train_seeds(config, options, tracking_uri=tracking_uri, reporter=reporter)
    seeds.seeds_result(result, as_json=as_json, quiet=quiet)
