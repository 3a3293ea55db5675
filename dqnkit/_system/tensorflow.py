"""The one place that imports TensorFlow and TF-Agents: `from dqnkit._system.tensorflow import tf`.

Importing this module takes seconds. Nothing that a command needs before training may.
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
    # The matrices of a Q-network are too small to be shared between threads, and runs beside each
    # other would share the cores.
    "xla_cpu_multi_thread_eigen": "false",
}
_LATER_XLA_FLAGS = {
    # Operations that do not wait for each other go to a second thread, and waking it takes longer
    # than they do: a call from Python is a third faster without.
    "xla_cpu_enable_concurrency_optimized_scheduler": "false",
}
"""Of releases after 2.15, whose XLA ends the process at a flag that it does not know."""


def _import_tensorflow() -> Any:
    if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
        raise DqnkitError(
            "TensorFlow was imported before dqnkit and uses Keras 3, which TF-Agents cannot: "
            "import dqnkit first, or set TF_USE_LEGACY_KERAS=1"
        )
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf  # only after the environment is set

        _set_xla_flags(tf.__version__)
        # A GPU loses to one core on networks of this size, by the latency of its launches.
        tf.config.set_visible_devices([], "GPU")
        with contextlib.suppress(RuntimeError):  # the caller has used TensorFlow already
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        # The first operation looks for devices, aloud; 2.15 tells of its first compilation too.
        tf.function(lambda: tf.constant(0), jit_compile=True, autograph=False)()
    tf.get_logger().setLevel("ERROR")
    return tf


def _set_xla_flags(version: str) -> None:
    """In time: XLA reads them when it compiles for the first time."""
    wanted = dict(_XLA_FLAGS)
    if tuple(map(int, version.split(".")[:2])) > (2, 15):
        wanted |= _LATER_XLA_FLAGS
    given = os.environ.get("XLA_FLAGS", "")
    ours = [f"--{name}={value}" for name, value in wanted.items() if name not in given]
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *ours])


tf: Any = _import_tensorflow()

with quiet_stderr():  # gym, which TF-Agents imports and nothing here uses, prints a notice
    # XLA's own operations, where TensorFlow has no name for them.
    from tensorflow.compiler.tf2xla.python import xla
    from tf_agents.agents import tf_agent
    from tf_agents.agents.categorical_dqn import categorical_dqn_agent
    from tf_agents.agents.dqn import dqn_agent
    from tf_agents.networks import network
    from tf_agents.specs import tensor_spec
    from tf_agents.trajectories import policy_step, time_step, trajectory
    from tf_agents.utils import common

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no types."""


def compiled(function: Callable[..., Any], *signature: Any) -> Callable[..., Any]:
    """A function of tensors, of one signature and with one result; XLA compiles it at a first call.

    `tf.function` looks for a trace at each call and binds arguments to it, which takes longer than
    a small Q-network does: what it calls in the end is called here.
    """
    traced = tf.function(function, jit_compile=True, autograph=False)
    call = called_flat(traced.get_concrete_function(*signature))
    return lambda *arguments: call(*arguments)[0]


def called_flat(concrete: Any) -> Callable[..., Any]:
    """A concrete function without what looks at its arguments; from tensors to a list of them."""
    inner, captured = concrete.inference_fn, concrete.captured_inputs

    def call(*arguments: Tensor) -> Any:
        return inner.call_flat(*arguments, *captured)

    call.keeps = concrete  # type: ignore[attr-defined]  # the graph, and what it refers to
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
