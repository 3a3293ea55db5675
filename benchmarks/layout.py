"""Measures the matrix products of an update with activations [batch, units] and [units, batch].

    uv run python benchmarks/layout.py

Prints microseconds per product inside a compiled loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import report

from dqnkit._system.tensorflow import Tensor, tf

BATCH, INPUTS, UNITS = 64, 100, 50
REPEATS, ROUNDS = 2_000, 15


def microseconds(product: Callable[[Tensor, Tensor], Tensor], *shapes: tuple[int, int]) -> float:
    """Return the least time of a product in a loop where each depends on the one before.

    Args:
      product: The product of two matrices.
      shapes: Shapes of the two matrices.
    """
    rng = np.random.default_rng(0)
    left, right = (tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes)

    @tf.function(jit_compile=True, autograph=False)
    def loop(left: Tensor, right: Tensor) -> Tensor:
        def body(i: Tensor, left: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            first = tf.reshape(product(left, right), [-1])[0]
            return i + 1, left + first * 1e-30, total + first

        return tf.while_loop(lambda i, *_: i < REPEATS, body, (0, left, 0.0))[2]

    loop(left, right).numpy()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        loop(left, right).numpy()
        times.append(time.perf_counter() - start)
    return min(times) / REPEATS * 1e6


def main() -> None:
    report.make_parser(__doc__).parse_args()
    matmul = tf.matmul
    rows = [
        (
            "forward",
            microseconds(matmul, (BATCH, INPUTS), (INPUTS, UNITS)),
            microseconds(lambda x, w: matmul(w, x), (INPUTS, BATCH), (UNITS, INPUTS)),
        ),
        (
            "gradient of the kernel",
            microseconds(
                lambda x, g: matmul(x, g, transpose_a=True), (BATCH, INPUTS), (BATCH, UNITS)
            ),
            microseconds(
                lambda x, g: matmul(g, x, transpose_b=True), (INPUTS, BATCH), (UNITS, BATCH)
            ),
        ),
        (
            "gradient of the input",
            microseconds(
                lambda g, w: matmul(g, w, transpose_b=True), (BATCH, UNITS), (INPUTS, UNITS)
            ),
            microseconds(
                lambda g, w: matmul(w, g, transpose_a=True), (UNITS, BATCH), (UNITS, INPUTS)
            ),
        ),
    ]
    print(f"{report.machine()}; microseconds, batch {BATCH}, {INPUTS} inputs, {UNITS} units")
    print(f"{'':<24}{'[batch, units]':>16}{'[units, batch]':>16}")
    for name, rows_first, columns_first in rows:
        print(f"{name:<24}{rows_first:>16.2f}{columns_first:>16.2f}")


if __name__ == "__main__":
    main()
