"""`dqnkit train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dqnkit.config.sections import Config


def train(
    experiment: options.Experiment = None,
    env: options.Env = None,
    assignments: options.Assignments = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Seed of the run. The same seed gives the same curve.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Train K seeds in parallel, from the run's own seed upwards, and aggregate their "
            "scores.",
            show_default=False,
        ),
    ] = None,
    workers: options.Workers = None,
    actors: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Collect experience in N processes apart from the learner, through Reverb "
            "(replay.kind=reverb). With 0, `dqnkit actor` on other hosts collects it.",
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
            help="Continue an interrupted run from its last checkpoint, e.g. latest. RUN has the "
            "same forms as in `dqnkit compare`.",
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
    """Train a DQN, evaluate it as it learns, and record everything in MLflow."""
    from cli.loading import experiment_config  # deferred, so that `--help` is quick
    from dqnkit.errors import ConfigError
    from dqnkit.workers.placement import Placement

    if resume is not None:
        others = {
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
            "--ray-address": ray_address,
            "--cpus": None if cpus == 1.0 else cpus,
            "--gpus": None if gpus == 0.0 else gpus,
        }
        _refuse_beside_resume(resume, others)
        if not _resume_seeds(resume, tracking_uri, as_json=as_json, quiet=quiet):
            _resume(resume, tracking_uri, as_json=as_json, quiet=quiet)
        return
    placement = Placement(launcher=launcher, ray_address=ray_address, cpus=cpus, gpus=gpus)
    if actors is not None:
        assignments = [f"training.num_actors={actors}", *(assignments or [])]
    several = f"--workers {workers}" if workers is not None else f"--launcher {launcher}"
    if several != "--launcher local" and seeds is None:
        raise ConfigError(f"{several}: a single run has one process; give --seeds K as well")
    if from_study is not None:
        chosen = experiment if env is None else f"--env {env}"
        config = _winner(from_study, storage, chosen, seed, assignments)
    elif storage is not None:
        raise ConfigError("--storage: only --from-study reads it; give that as well")
    else:
        config = experiment_config(experiment, env, seed, assignments)
    if seeds is None:
        _train(config, name, tracking_uri, as_json=as_json, quiet=quiet)
        return
    _train_seeds(
        config,
        tracking_uri,
        as_json=as_json,
        quiet=quiet,
        num_seeds=seeds,
        workers=workers,
        run_name=name,
        placement=placement,
    )


def _refuse_beside_resume(reference: str, others: Mapping[str, object]) -> None:
    from dqnkit.errors import ConfigError

    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            f"--resume {reference}: a run continues with its own settings, so that "
            f"{', '.join(given)} cannot be given as well; to change settings, start a new run"
        )


def _winner(
    study: str,
    storage: str | None,
    experiment: str | None,
    seed: int | None,
    assignments: list[str] | None,
) -> Config:
    from cli.loading import option_overrides
    from dqnkit.config import loading
    from dqnkit.errors import ConfigError
    from dqnkit.tuning.catalog import load_winner
    from dqnkit.tuning.storage import locate_storage

    if experiment is not None:
        raise ConfigError(
            f"--from-study {study} chooses what is trained, and so does {experiment}: give one"
        )
    text = load_winner(locate_storage(storage), study)
    config = loading.load_recorded(text, f"the winner of {study}")
    return loading.override(config, option_overrides(None, seed, assignments))


def _train(
    config: Config, name: str | None, tracking_uri: str, *, as_json: bool, quiet: bool
) -> None:
    from cli import output
    from cli.displays import training
    from dqnkit.runs.trainer import train as run_training

    with (
        output.reserve_stdout(as_json=as_json),
        training.displayed(as_json=as_json, quiet=quiet) as display,
    ):
        result = run_training(config, tracking_uri=tracking_uri, listener=display, run_name=name)
    training.print_result(result, as_json=as_json, quiet=quiet)


def _resume(reference: str, tracking_uri: str, *, as_json: bool, quiet: bool) -> None:
    from cli import output
    from cli.displays import training
    from dqnkit.runs.trainer import resume

    with (
        output.reserve_stdout(as_json=as_json),
        training.displayed(as_json=as_json, quiet=quiet) as display,
    ):
        result = resume(reference, tracking_uri=tracking_uri, listener=display)
    training.print_result(result, as_json=as_json, quiet=quiet)


def _resume_seeds(reference: str, tracking_uri: str, *, as_json: bool, quiet: bool) -> bool:
    """Continue a group of seeds; return False if the reference is to another run."""
    from cli import output
    from cli.displays import seeds
    from dqnkit.workers.seeds import resume_seeds

    with (
        output.reserve_stdout(as_json=as_json),
        seeds.displayed(as_json=as_json, quiet=quiet) as display,
    ):
        result = resume_seeds(reference, tracking_uri=tracking_uri, listener=display)
    if result is None:
        return False
    seeds.print_result(result, as_json=as_json, quiet=quiet)
    return True


def _train_seeds(
    config: Config, tracking_uri: str, *, as_json: bool, quiet: bool, **arguments: Any
) -> None:
    from cli import output
    from cli.displays import seeds
    from dqnkit.workers.seeds import train_seeds

    with (
        output.reserve_stdout(as_json=as_json),
        seeds.displayed(as_json=as_json, quiet=quiet) as display,
    ):
        result = train_seeds(config, **arguments, tracking_uri=tracking_uri, listener=display)
    seeds.print_result(result, as_json=as_json, quiet=quiet)
