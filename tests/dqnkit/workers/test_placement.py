from __future__ import annotations

from typing import Any

import pytest

from dqnkit.errors import ArgumentError
from dqnkit.workers.placement import LOCAL, Placement


def test_workers_run_on_this_machine_by_default() -> None:
    assert Placement() == LOCAL
    assert LOCAL.launcher == "local"
    assert list(LOCAL.arguments()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"cpus": 2.0}, [("cpus", "2")]),
        ({"gpus": 0.25}, [("gpus", "0.25")]),
        ({"ray_address": "auto"}, [("ray_address", "auto")]),
        ({"ray_address": "[::1]:6379", "cpus": 1}, [("ray_address", "[::1]:6379")]),
    ],
)
def test_arguments_that_differ_from_their_defaults_are_listed(
    given: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    placement = Placement(launcher="ray", **given)
    assert list(placement.arguments()) == [("launcher", "ray"), *expected]


@pytest.mark.parametrize(
    ("argument", "value"), [("cpus", 2.0), ("gpus", 1.0), ("ray_address", "host:1")]
)
def test_arguments_for_ray_are_refused_on_this_machine(argument: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match="only to a Ray cluster; choose `launcher`") as caught:
        Placement(**{argument: value})
    assert (caught.value.argument, caught.value.value) == (argument, value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cpus": 0.0}, "cpus=0: expected a number above 0, up to 1024"),
        ({"cpus": float("nan")}, "cpus=nan"),
        ({"cpus": 1_025.0}, "cpus=1025"),
        ({"gpus": -1.0}, "gpus=-1: expected a number from 0 to 1024"),
        ({"ray_address": "somewhere"}, "ray_address='somewhere': expected HOST:PORT, or auto"),
        ({"ray_address": "host:"}, "expected HOST:PORT"),
        ({"ray_address": "ray://host:10001"}, "ray_address=ray://host:10001: .* node of the"),
    ],
)
def test_wrong_values_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Placement(launcher="ray", **given)
