"""dqnkit: train, track, tune and render Deep Q-Networks.

    import dqnkit

    config = dqnkit.load("cartpole", {"training.seed": 1})
    result = dqnkit.train(config)
    print(result.final.summary)

All functions that read or write runs share the argument `tracking_uri`, which chooses the MLflow
store (None records nothing). Those that take time share `listener`, which receives the events of
`dqnkit.events`. The names of the package are listed in
`__init__.pyi`; each is imported on first use, so that `import dqnkit` loads neither TensorFlow
nor MLflow.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
