from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dqnkit._system.tensorflow import _set_xla_flags, called_flat, compiled, tf


def test_a_compiled_function_computes_the_same() -> None:
    def function(a: object, b: object) -> object:
        return tf.matmul(a, b) + 1.0

    a, b = (np.random.default_rng(i).normal(size=(3, 3)).astype(np.float32) for i in range(2))
    spec = tf.TensorSpec([3, 3], tf.float32)
    result = compiled(function, spec, spec)(tf.constant(a), tf.constant(b))
    np.testing.assert_allclose(result, a @ b + 1.0, rtol=1e-5)


def test_a_compiled_function_reads_variables_as_they_are_at_the_call() -> None:
    variable = tf.Variable(1.0)
    function = compiled(lambda x: x * variable, tf.TensorSpec([], tf.float32))
    variable.assign(3.0)
    assert float(function(tf.constant(2.0))) == 6.0


def test_called_flat_outlives_the_function_that_it_was_made_from() -> None:
    def make() -> Callable[..., Any]:
        variable = tf.Variable(2.0)
        function = tf.function(lambda x: {"sum": x + variable, "product": x * variable})
        return called_flat(function.get_concrete_function(tf.TensorSpec([], tf.float32)))

    call = make()
    gc.collect()
    assert sorted(map(float, call(tf.constant(5.0)))) == [7.0, 10.0]


@pytest.mark.parametrize(
    ("version", "given", "expected"),
    [
        ("2.15.1", "", "--xla_cpu_multi_thread_eigen=false"),
        (
            "2.21.0",
            "",
            "--xla_cpu_multi_thread_eigen=false "
            "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        ),
        ("2.15.0", "--xla_cpu_multi_thread_eigen=true", "--xla_cpu_multi_thread_eigen=true"),
        ("2.15.0", "--other=1", "--other=1 --xla_cpu_multi_thread_eigen=false"),
    ],
)
def test_xla_flags_are_added_to_those_of_the_user(
    monkeypatch: pytest.MonkeyPatch, version: str, given: str, expected: str
) -> None:
    monkeypatch.setenv("XLA_FLAGS", given)
    _set_xla_flags(version)
    assert os.environ["XLA_FLAGS"] == expected


def test_tensorflow_imported_with_keras_3_is_refused() -> None:
    code = (
        "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
        "from dqnkit.errors import DqnkitError\n"
        "try:\n"
        "    import dqnkit._system.tensorflow\n"
        "except DqnkitError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": ""},
    )
    assert "import dqnkit first, or set TF_USE_LEGACY_KERAS=1" in result.stdout
