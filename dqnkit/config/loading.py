"""Loading of experiments: YAML files, by name or by path, with overrides on top."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dqnkit._system.text import one_line
from dqnkit.config.distributions import KINDS
from dqnkit.config.fields import CombinationError, Section
from dqnkit.config.sections import Config
from dqnkit.config.yaml_parsing import check_values, parse_yaml, plain_copy
from dqnkit.errors import ArgumentError, ConfigError

DEFAULT_EXPERIMENT = "cartpole"

_PACKAGE = Path(__file__).parents[1]
_DIRECTORIES = (_PACKAGE / "_experiments", _PACKAGE.parent / "experiments")
"""Candidate directories of the committed experiments: in a wheel, and in a checkout."""

_WORDS = {
    "input should be": "but it should be",
    "dictionary or instance of WrapperConfig": "path, or path: arguments",
    "dictionary or object to extract fields from": "mapping",
    "dictionary": "mapping",
    "tuple": "list",
    " after validation": "",
}
"""Words of Pydantic's messages, and words of YAML that replace them."""


class Override(NamedTuple):
    """A value that replaces the one of a key."""

    key: str
    """Key as `section.key`, or deeper, such as `env.kwargs.size`."""
    value: Any
    given: str = ""
    """Text by which messages call the override; `key=value` if empty."""


Overrides = Mapping[str, Any] | Iterable[str | Override]
"""Values that replace those of an experiment; later ones win.

Either texts of the form `section.key=value` (see `parse_override`) and `Override`s, in any mixture;
or a mapping from `section.key` to values, in which a mapping under the name of a section sets the
keys that it contains: `{"training.seed": 1, "optimizer": {"kind": "adamw"}}`.
"""


_MAX_FILES = 5
_SYNONYMS = {
    "lr": "learning_rate",
    "steps": "num_iterations",
    "total_timesteps": "num_iterations",
    "iterations": "num_iterations",
    "discount": "gamma",
    "hidden": "fc_layer_params",
    "layers": "fc_layer_params",
    "buffer_size": "replay_buffer_max_length",
    "capacity": "replay_buffer_max_length",
    "learning_starts": "initial_collect_steps",
    "eval_episodes": "num_eval_episodes",
}
"""Keys by names that other tools give them."""


def experiment_names() -> list[str]:
    """Return the names of the committed experiments, sorted."""
    return sorted(path.stem for path in _directory().glob("*.yaml"))


def load(experiment: str = DEFAULT_EXPERIMENT, overrides: Overrides = ()) -> Config:
    """Load an experiment and put overrides on top.

    Args:
      experiment: Name of a committed experiment, or path of a YAML file.
      overrides: Values that replace those of the experiment, as `["training.seed=1"]` or
        `{"training.seed": 1}` (see `Overrides`).

    Raises:
      ConfigError: If there is no such experiment, or a key or value is not allowed. The message
        names the file or override, the key, the value and what is allowed.
    """
    path = _locate(experiment)
    document = _read(path)
    document.setdefault("name", _as_name(path.stem))
    return _validate(document, overrides, str(path))


def load_text(text: str, source: str, overrides: Overrides = ()) -> Config:
    """Load an experiment from its YAML text, which messages call `source` (see `load`)."""
    return _validate(_parse(text, source), overrides, source)


def default_config(name: str, overrides: Overrides = ()) -> Config:
    """Return the default configuration under an experiment name, with overrides on top.

    Characters of the name that experiment names do not allow are replaced (see `load`).
    """
    return _validate({"name": _as_name(name)}, overrides, "the defaults")


def load_for_environment(env_id: str, overrides: Overrides = ()) -> Config:
    """Load the committed experiment of an environment, or the defaults if there is none.

    Args:
      env_id: Gymnasium id of the environment.
      overrides: Values that replace those of the experiment (see `Overrides`).

    Raises:
      ConfigError: If a key or value is not allowed.
    """
    environment = Override("env.id", env_id, f"env_id={env_id}")
    name = _experiment_of(env_id)
    if name is None:
        return default_config(env_id.lower(), [environment, *_as_list(overrides)])
    if _EnvId.parse(env_id).module is None:
        return load(name, overrides)
    return load(name, [environment, *_as_list(overrides)])


def override(config: Config, overrides: Overrides) -> Config:
    """Return a configuration with overrides on top (see `load`)."""
    return _validate(config.model_dump(mode="json"), overrides, "the configuration")


def override_choices(config: Config, overrides: Overrides) -> Config:
    """Return a configuration with overrides on top, without values that do not apply.

    Unlike in `override`, a value among the overrides that does not apply with the choices among
    them becomes null. A search can therefore cover several kinds of agents and the keys of each.
    """
    document = config.model_dump(mode="json")
    return _validate(document, overrides, "the configuration", keep_inapplicable=False)


def load_recorded(text: str, source: str) -> Config:
    """Load the configuration of a run from its YAML text, which messages call `source`.

    Values that do not apply are dropped: earlier versions recorded them.
    """
    return _validate(_parse(text, source), (), source, keep_inapplicable=False)


def dump(config: Config) -> str:
    """Return a configuration as YAML, from which `load` returns an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> str:
    """Return the JSON schema of the configuration, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def parse_override(text: str, given: str | None = None) -> Override:
    """Parse an override of the form `section.key=value`, with the value in YAML.

    Args:
      text: Text of the override.
      given: Text with which messages begin; the text itself by default.

    Raises:
      ConfigError: If the text has another form, or the value is not valid YAML.
    """
    given = text if given is None else given
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(
            f"{given}: write section.key=value, for example optimizer.learning_rate=1e-4"
        )
    try:
        return Override(".".join(parts), parse_yaml(value), given)
    except ValueError as error:
        if value.count("[") > value.count("]") or value.count("{") > value.count("}"):
            raise ConfigError(
                f"{given}: the value is not valid YAML: a list or mapping begins and does not end. "
                "An assignment with spaces needs quotes around all of it, such as "
                "'network.fc_layer_params=[64, 64]'"
            ) from error
        raise ConfigError(f"{given}: the value is not valid YAML: {error}") from error


def config_keys() -> list[str]:
    """Return all keys of a configuration, as `section.key`, and the names of the sections."""
    return list(_keys(Config, ""))


def value_at(config: Config, key: str) -> Any:
    """Return the value under `section.key` in the types of YAML; None if there is none."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def applies(config: Config, key: str) -> bool:
    """Return whether `section.key` applies with the choices of a configuration."""
    name, _, rest = key.partition(".")
    section = getattr(config, name, None)
    return not isinstance(section, Section) or rest not in section.inapplicable(vars(section))


def suggestion(given: str, known: Sequence[str]) -> str:
    """Return ` (did you mean …?)` with the most similar known name; empty if none is similar."""
    matches = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


class _EnvId(NamedTuple):
    """The parts of a Gymnasium id, `module:namespace/Name-vN`."""

    module: str | None
    name: str
    """Name with its namespace."""
    version: int | None

    @classmethod
    def parse(cls, env_id: str) -> _EnvId:
        module, _, rest = env_id.rpartition(":")
        match = re.fullmatch(r"(.+?)(?:-v(\d+))?", rest)
        name, version = match.groups() if match else (rest, None)
        return cls(module or None, name, None if version is None else int(version))


def _experiment_of(env_id: str) -> str | None:
    """Return the committed experiment of an environment; the newest version if none is given."""
    wanted = _EnvId.parse(env_id)
    found: dict[int, str] = {}
    for name in experiment_names():
        given = _EnvId.parse(load(name).env.id)
        if given.name == wanted.name and given.version is not None:
            found.setdefault(given.version, name)
    return found.get(max(found, default=-1) if wanted.version is None else wanted.version)


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-._")[:100] or "dqn"


def _directory() -> Path:
    return next(path for path in _DIRECTORIES if path.is_dir())


def _locate(experiment: str) -> Path:
    names = experiment_names()
    if experiment in names:
        return _directory() / f"{experiment}.yaml"
    path = Path(experiment)
    try:
        if path.is_file():
            return path
        is_directory = path.is_dir()
    except (OSError, ValueError):
        is_directory = False
    if is_directory:
        raise ConfigError(
            f"{experiment!r} is a directory: give the path of a YAML file, or one of the "
            f"committed experiments {', '.join(names)}"
        )
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise ConfigError(
            f"there is no file {experiment!r}{_nearby_files(path)}; `dqnkit experiments` lists the "
            "committed experiments, which are given by their names"
        )
    raise ConfigError(
        f"there is no experiment {experiment!r}{suggestion(experiment, names)}. "
        f"Committed experiments: {', '.join(names)}; or give the path of a YAML file"
    )


def _nearby_files(path: Path) -> str:
    """Return a clause on the YAML files in the folder of a file that is missing."""
    try:
        if not path.parent.is_dir():
            return f": there is no folder {str(path.parent)!r}"
        found = sorted(each.name for each in path.parent.iterdir() if each.suffix == path.suffix)
    except (OSError, ValueError):
        return ""
    place = "here" if path.parent == Path() else f"in {str(path.parent)!r}"
    if not found:
        return f" {place}"
    # The suffix would make all of them alike.
    by_stem = {each.removesuffix(path.suffix): each for each in found}
    nearest = difflib.get_close_matches(path.stem, by_stem, n=1)
    if nearest:
        return f" {place} (did you mean {by_stem[nearest[0]]!r}?)"
    more = f" and {len(found) - _MAX_FILES} more" if len(found) > _MAX_FILES else ""
    return f" {place}; there are {', '.join(found[:_MAX_FILES])}{more}"


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not valid YAML: {one_line(error)}") from error
    return _parse(text, str(path))


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        document = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{source}: is not valid YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{source}: contains {reprlib.repr(document)}, and a configuration is a mapping of "
            f"sections ({', '.join(Config.model_fields)})"
        )
    return document


def _as_list(overrides: Overrides) -> list[Override]:
    """Return the overrides in order, with their values checked and copied."""
    if isinstance(overrides, str | Override):  # both are iterable
        raise ArgumentError("overrides", overrides, 'give a list, as ["training.seed=1"]')
    items = _entries(overrides) if isinstance(overrides, Mapping) else overrides
    return [_as_override(each) for each in items]


def _entries(overrides: Mapping[str, Any]) -> Iterator[Override]:
    for key, value in overrides.items():
        if _section(key) and isinstance(value, Mapping):
            yield from (Override(f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield Override(key, value)


def _as_override(item: str | Override) -> Override:
    if isinstance(item, str):
        return parse_override(item)
    if not isinstance(item, Override) or not isinstance(item.key, str):
        problem = "each is a text `section.key=value`, an Override, or a key of a mapping"
        raise ArgumentError("overrides", item, problem)
    given = item.given or one_line(f"{item.key}={item.value}")
    try:
        check_values(item.value)
    except ValueError as error:
        raise ConfigError(f"{given}: {error}") from error
    return Override(item.key, plain_copy(item.value), given)


class _Draft:
    """A document with overrides on top, which knows the origin of each value."""

    def __init__(self, document: Mapping[str, Any], source: str) -> None:
        self.values: dict[str, Any] = plain_copy(document)
        self._document = document
        self._source = source
        self._overrides: dict[tuple[str, ...], str] = {}

    def apply(self, item: Override) -> None:
        """Set the value of an override.

        Raises:
          ConfigError: If a value that is not a mapping takes the place of a section above the key.
        """
        *above, last = path = _path(item.key)
        target = self.values
        for depth, part in enumerate(above, 1):
            inner = target.get(part)
            if inner is None:
                inner = target[part] = {}
            if not isinstance(inner, dict):
                raise ConfigError(f"{item.given}: {self._not_a_mapping(path[:depth], inner)}")
            target = inner
        target[last] = item.value
        # Overrides at and below the path have lost their effect.
        kept = {p: given for p, given in self._overrides.items() if p[: len(path)] != path}
        self._overrides = {**kept, path: item.given}

    def is_overridden(self, *path: str) -> bool:
        """Return whether an override sets exactly this path."""
        return path in self._overrides

    def origins(self, path: tuple[str, ...]) -> list[str]:
        """Return the names of the overrides or the source that determine the value at a path."""
        related = [
            (len(each) <= len(path), given)
            for each, given in self._overrides.items()
            if all(ours == theirs for ours, theirs in zip(each, path, strict=False))
        ]
        given = [given for _, given in related]
        whole = [index for index, (is_whole, _) in enumerate(related) if is_whole]
        if whole:
            return given[whole[-1] :]
        is_in_source = not given or _contains(self._document, path)
        return [self._source, *given] if is_in_source else given

    def origins_of_keys(self, paths: Iterable[tuple[str, ...]]) -> list[str]:
        """Return the name of the source and of the overrides that determine any of the paths."""
        involved = {origin for path in paths for origin in self.origins(path)}
        return [self._source, *(each for each in self._overrides.values() if each in involved)]

    def origins_within(self, path: tuple[str, ...]) -> list[str]:
        """Return the name of the source and of the overrides at or below a path."""
        within = [given for p, given in self._overrides.items() if p[: len(path)] == path]
        return [self._source, *within]

    def _not_a_mapping(self, path: tuple[str, ...], value: Any) -> str:
        origin, section = ", ".join(self.origins(path)), _section(path[0])
        given = f"{'.'.join(path)!r} in {origin} is given as the value {reprlib.repr(value)}"
        if section is not None and len(path) == 1:
            return f"{given}, while it is {_with_keys(section)}"
        return f"{given}, which has no keys below it"


def _path(key: str) -> tuple[str, ...]:
    return tuple(key.split("."))


def _contains(document: Any, path: tuple[str, ...]) -> bool:
    """Return whether a document has a value at or below a path; its own keys may be dotted."""
    if not path:
        return True
    if not isinstance(document, Mapping):
        # Validation expands lists and short forms, so that a path can lead beyond the document.
        return document is not None
    for key, value in document.items():
        parts = _path(key)
        if parts[: len(path)] == path or (
            path[: len(parts)] == parts and _contains(value, path[len(parts) :])
        ):
            return True
    return False


def _validate(
    document: dict[str, Any],
    overrides: Overrides,
    source: str,
    *,
    keep_inapplicable: bool = True,
) -> Config:
    draft = _Draft(document, source)
    inapplicable_before = _inapplicable(document)
    for item in _as_list(overrides):
        draft.apply(item)
    for section, key in _inapplicable(draft.values):
        # Overriding a choice drops the values that the document gives to another choice. A value
        # that is given together with a choice to which it does not apply is a mistake.
        is_mistake = (
            (section, key) in inapplicable_before
            or draft.is_overridden(section)
            or draft.is_overridden(section, key)
        )
        if not (is_mistake and keep_inapplicable):
            draft.values[section].pop(key, None)
    try:
        return Config.model_validate(draft.values)
    except ValidationError as error:
        lines = [_explain(detail, draft) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _inapplicable(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return section and key of the values of a document that do not apply with its choices."""
    found = set()
    for name, values in document.items():
        section = _section(name)
        if section is not None and isinstance(values, dict):
            keys = section.inapplicable(values)
            found |= {(name, key) for key in keys if values.get(key) is not None}
    return found


def _explain(detail: ErrorDetails, draft: _Draft) -> str:
    location = tuple(str(part) for part in detail["loc"])
    # Pydantic inserts the `type` of a distribution into the location as if it were a key.
    place = location[:2] + location[3:] if location[:1] == ("search",) else location
    key = ".".join(place)
    path = _path(key) if place else ()
    origin = ", ".join(draft.origins(path))
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, CombinationError):
        origins = draft.origins_of_keys([(*path, *_path(each)) for each in error.keys])
        return f"{', '.join(origins)}: {f'{key}: ' if key else ''}{message}"
    if len(place) < 2 and detail["type"] == "value_error":
        return f"{', '.join(draft.origins_within(path))}: {f'{key}: ' if key else ''}{message}"
    if detail["type"] == "extra_forbidden":
        return f"{origin}: {_unknown_key(location, key)}"
    if detail["type"] == "missing":
        return f"{origin}: {key} is required"
    section = _section(key)
    if section is not None and detail["type"] == "model_type":
        message = f"but it is {_with_keys(section)}"
    elif detail["type"].startswith("union_tag"):
        message = f"but it needs a type of {', '.join(KINDS)}"
    else:
        for pydantic, ours in _WORDS.items():
            message = message.replace(pydantic, ours)
    return f"{origin}: {key}: {reprlib.repr(detail['input'])} was given, {message}"


def _unknown_key(location: tuple[str, ...], key: str) -> str:
    siblings = list(_model_at(location[:-1]).model_fields)
    name = _SYNONYMS.get(location[-1], location[-1])
    hint = suggestion(name, siblings)
    elsewhere = [each for each in config_keys() if each.endswith(f".{name}")]
    if not hint and elsewhere:
        hint = f" (did you mean {elsewhere[0]!r}?)"
    section = f"the section {key.rpartition('.')[0]!r}" if location[1:] else "the top level"
    return f"there is no key {key!r}{hint}. Keys of {section}: {', '.join(siblings)}"


def _with_keys(section: type[Section]) -> str:
    return f"a section with keys ({', '.join(section.model_fields)})"


def _section(name: str) -> type[Section] | None:
    """Return the class of a section of `Config`; None for other keys."""
    field = Config.model_fields.get(name)
    annotation: Any = field.annotation if field else None
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")


def _model_at(location: tuple[str, ...]) -> type[BaseModel]:
    """Return the model in which validation found the last part of a location."""
    model: type[BaseModel] = Config
    if location[0:1] == ("search",) and len(location) > 2:
        return KINDS[location[2]]
    for part in location:
        if part in model.model_fields:  # other parts are indices of lists
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first model in an annotation, such as the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
