"""`dqnkit experiments` and `dqnkit schema`: what can be trained, and how it is written."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options


def experiments(
    name: Annotated[
        str | None, typer.Argument(help="Show this one whole.", show_default=False)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the committed experiments, or show one."""
    import json  # noqa: PLC0415 - `--help` loads no configuration

    from dqnkit import experiments as library  # noqa: PLC0415

    if name is not None:
        config = library.load(name)
        document = config.model_dump(mode="json")
        typer.echo(json.dumps(document, indent=2) if as_json else library.dump(config), nl=as_json)
        return
    configs = {name: library.load(name) for name in library.names()}
    if as_json:
        rows = {name: {"env": c.env.id, "description": c.description} for name, c in configs.items()}
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, config in configs.items():
        typer.echo(f"{name:<16}{config.env.id:<18}{config.description}")


def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from dqnkit import experiments as library  # noqa: PLC0415 - as above

    typer.echo(library.json_schema(), nl=False)
