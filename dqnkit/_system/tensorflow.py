"""Import of TensorFlow and TF-Agents; other modules use `from dqnkit._system.tensorflow import tf`.

The import takes seconds. Modules that the command line needs before training must not import this
module.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from dqnkit._system.stderr import quiet_stderr
from dqnkit.errors import DqnkitError

_XLA_FLAGS = {
    # The matrices of a Q-network are too small to be split between threads, and concurrent runs
    # would compete for the cores.
    "xla_cpu_multi_thread_eigen": "false",
}
_LATER_XLA_FLAGS = {
    # XLA runs independent operations in a second thread. Waking it takes longer than the operations
    # themselves: without it, a call from Python takes a third less time.
    "xla_cpu_enable_concurrency_optimized_scheduler": "false",
}
"""Flags that the XLA of TensorFlow 2.15 does not know: it aborts the process at unknown flags."""


def _import_tensorflow() -> Any:
    if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
        raise DqnkitError(
            "TensorFlow was imported before dqnkit and uses Keras 3, which TF-Agents cannot: "
            "import dqnkit first, or set TF_USE_LEGACY_KERAS=1"
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf  # reads the environment variables above

        _set_xla_flags(tf.__version__)
        # With networks of this size, the launch latency makes a GPU slower than one CPU core.
        tf.config.set_visible_devices([], "GPU")
        with contextlib.suppress(RuntimeError):  # the caller has initialised TensorFlow already
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        # The first operation logs the devices, and TensorFlow 2.15 logs its first compilation.
        tf.function(lambda: tf.constant(0), jit_compile=True, autograph=False)()
    tf.get_logger().setLevel("ERROR")
    return tf


def _set_xla_flags(version: str) -> None:
    """Add the XLA flags to the environment, which XLA reads at its first compilation."""
    wanted = dict(_XLA_FLAGS)
    if tuple(map(int, version.split(".")[:2])) > (2, 15):
        wanted |= _LATER_XLA_FLAGS
    present = os.environ.get("XLA_FLAGS", "")
    added = [f"--{name}={value}" for name, value in wanted.items() if name not in present]
    os.environ["XLA_FLAGS"] = " ".join([*present.split(), *added])


tf: Any = _import_tensorflow()

with quiet_stderr():  # TF-Agents imports gym, which prints a deprecation notice
    # XLA operations that TensorFlow's public API lacks.
    from tensorflow.compiler.tf2xla.python import xla
    from tf_agents.agents import tf_agent
    from tf_agents.agents.categorical_dqn import categorical_dqn_agent
    from tf_agents.agents.dqn import dqn_agent
    from tf_agents.networks import network
    from tf_agents.specs import tensor_spec
    from tf_agents.trajectories import policy_step, time_step, trajectory
    from tf_agents.utils import common

Tensor = Any
"""Type of a `tf.Tensor`; TensorFlow has no type annotations."""


def compiled(function: Callable[..., Any], *signature: Any) -> Callable[..., Any]:
    """Compile a function of tensors with XLA, for one signature.

    A call of a `tf.function` selects a trace and binds the arguments, which takes longer than a
    forward pass of a small Q-network. The returned function calls the concrete function directly.

    Args:
      function: Function of tensors that returns one tensor.
      *signature: `tf.TensorSpec` of each argument.

    Returns:
      The compiled function. XLA compiles it at the first call.
    """
    traced = tf.function(function, jit_compile=True, autograph=False)
    call = called_flat(traced.get_concrete_function(*signature))
    return lambda *arguments: call(*arguments)[0]


def called_flat(concrete: Any) -> Callable[..., Any]:
    """Return a function that calls a concrete function without checks, and returns a flat list."""
    inner, captured = concrete.inference_fn, concrete.captured_inputs

    def call(*arguments: Tensor) -> Any:
        return inner.call_flat(*arguments, *captured)

    call.keeps = concrete  # type: ignore[attr-defined]  # keeps the graph and its captures alive
    return call


__all__ = [
    "Tensor",
    "called_flat",
    "categorical_dqn_agent",
    "common",
    "compiled",
    "dqn_agent",
    "network",
    "policy_step",
    "tensor_spec",
    "tf",
    "tf_agent",
    "time_step",
    "trajectory",
    "xla",
]
