"""The commands `dqnkit experiments` and `dqnkit schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options


def experiments(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Show the configuration of this committed experiment or YAML file.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the committed experiments, or show the configuration of one."""
    import json  # deferred, so that `--help` is quick

    from cli.output import Column, say, say_table
    from dqnkit.config import loading as library

    if name is not None:
        config = library.load(name)
        document = config.model_dump(mode="json")
        say(json.dumps(document, indent=2) if as_json else library.dump(config).rstrip())
        return
    configs = [library.load(each) for each in library.experiment_names()]
    if as_json:
        rows = {c.name: {"env": c.env.id, "description": c.description} for c in configs}
        say(json.dumps(rows, indent=2))
        return
    columns = [
        Column("experiment", left=True, wraps=False),
        Column("environment", left=True, wraps=False),
        Column("description", left=True),
    ]
    say_table(columns, [[each.name, each.env.id, each.description] for each in configs])


def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from cli.output import say
    from dqnkit.config import loading as library

    say(library.json_schema().rstrip())
