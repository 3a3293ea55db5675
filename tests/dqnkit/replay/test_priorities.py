from __future__ import annotations

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.replay.priorities import importance_weights, priorities_from_td_errors


@pytest.mark.parametrize("convert", [np.float64, lambda x: tf.constant(x, tf.float64)])
def test_priorities_of_arrays_and_tensors(convert: object) -> None:
    assert callable(convert)
    td_errors = convert([-4.0, 0.0, 9.0])
    np.testing.assert_allclose(priorities_from_td_errors(td_errors, 0.5), [2, 1e-3, 3], rtol=1e-6)
    np.testing.assert_allclose(priorities_from_td_errors(td_errors, 0.0), 1.0)


def test_weights_are_divided_by_the_maximum_of_each_batch() -> None:
    priorities = np.array([[1.0, 4.0], [4.0, 16.0]])
    weights = importance_weights(priorities, 1.0)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [[1, 0.25], [1, 0.25]])
    np.testing.assert_allclose(importance_weights(priorities, 0.0), 1.0)
