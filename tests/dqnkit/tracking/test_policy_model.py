"""Recorded policies as MLflow and TensorFlow serve them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.config import loading
from dqnkit.envs.specs import ObservationKind, ObservationSpec
from dqnkit.tracking.policy_model import _example
from tests.runs import LEAN, record
from tests.specs import observation_spec

FALLING = np.float32([[0, 0, -0.1, -0.5], [0, 0, 0.1, 0.5]])
"""A pole that falls to the left, which wants action 0, and one that falls to the right."""


@pytest.fixture
def folder() -> Path:
    """Return the folder of a recorded policy."""
    record(weights=LEAN, with_policy=True)
    (found,) = Path("mlruns/artifacts").glob("*/*/artifacts/policy")
    return found.resolve()


def test_a_policy_holds_signature_example_requirements_and_configuration(folder: Path) -> None:
    from mlflow.models import Model

    model = Model.load(str(folder))
    (given,) = model.signature.inputs.to_dict()
    assert given["tensor-spec"] == {"dtype": "float32", "shape": (-1, 4)}
    (result,) = model.signature.outputs.to_dict()
    assert result["tensor-spec"] == {"dtype": "int32", "shape": (-1,)}
    np.testing.assert_array_equal(model.load_input_example(str(folder)), np.zeros((1, 4)))
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    assert requirements == [f"{n}=={version(n)}" for n in ("mlflow", "numpy", "tensorflow")]
    config = loading.load(str(folder / "artifacts/config.yaml"))
    assert config.env.id == "CartPole-v1"
    assert config.network.fc_layer_params == ()
    assert model.metadata["env"] == "CartPole-v1"


def test_tensorflow_alone_serves_actions_and_q_values(folder: Path) -> None:
    code = f"""
import json, sys, tensorflow as tf
policy = tf.saved_model.load({str(folder / "artifacts/saved_model")!r})
served = policy.signatures["serving_default"](observations=tf.constant({FALLING.tolist()}))
assert not {{"tf_agents", "dqnkit", "tf_keras", "mlflow"}} & set(sys.modules)
print(json.dumps({{name: value.numpy().tolist() for name, value in served.items()}}))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    served = json.loads(done.stdout)
    assert served["actions"] == [0, 1]
    expected = FALLING @ LEAN[:8].reshape(2, 4).T
    np.testing.assert_allclose(served["q_values"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (observation_spec(ObservationKind.VECTOR, (2,), "float32"), [[0.0, 0.0]]),
        (observation_spec(ObservationKind.VECTOR, (2,), "float32", low=3, high=4), [[3.0, 3.0]]),
        (
            observation_spec(ObservationKind.DISCRETE, (), "int64", num_values=5, first_value=-2),
            [-2],
        ),
        (
            observation_spec(ObservationKind.IMAGE, (1, 2), "uint8", frame_stack=2),
            [[[[0, 0]], [[0, 0]]]],
        ),
    ],
)
def test_an_example_is_an_observation(observation: ObservationSpec, expected: Any) -> None:
    example = _example(observation)
    assert example.dtype == observation.arrays[0].env_dtype
    np.testing.assert_array_equal(example, expected)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a policy by `mlflow models serve`, in a process that does not import dqnkit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    # MLflow looks for uvicorn, as an activated environment has it.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with Path("server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd="/", process_group=0
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, Path("server.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline, Path("server.log").read_text(encoding="utf-8")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping"):
                break
            time.sleep(0.5)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _invoke(address: str, body: Any) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_mlflow_serves_a_policy_over_http(folder: Path) -> None:
    with _served(folder) as address:
        assert _invoke(address, {"inputs": FALLING.tolist()}) == {"predictions": [0, 1]}
        example = json.loads((folder / "serving_input_example.json").read_text(encoding="utf-8"))
        assert len(_invoke(address, example)["predictions"]) == 1
        with pytest.raises(urllib.error.HTTPError) as caught:
            _invoke(address, {"inputs": [[1.0, 2.0]]})
        assert caught.value.code == 400
    assert tf.__version__ in (folder / "requirements.txt").read_text(encoding="utf-8")
