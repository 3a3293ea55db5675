"""The host loop: Gymnasium environments and replay in Python, updates and actions compiled.

An iteration takes collect_steps_per_iteration steps of the behaviour policy in every environment,
then gradient_steps_per_iteration updates. All updates of an iteration and the Q-values for the next
step are one call into a compiled function: the call costs more than a small update does. So the
batches of an iteration are drawn together, by the priorities that it began with.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from dqnkit.agents import DqnLearner
from dqnkit.config import Config
from dqnkit.envs.vector import Step, VectorEnvironment
from dqnkit.errors import ConfigError
from dqnkit.exploration import HOST_POLICIES
from dqnkit.policies import Weights
from dqnkit.replay.make import host_replay
from dqnkit.replay.priorities import importance_weights
from dqnkit.runtime import Tensor, compiled, tf, xla
from dqnkit.schedules import beta_schedule, exploration_schedule
from dqnkit.seeds import Stream, stream_key, stream_seeds
from dqnkit.specs import EnvSpec
from dqnkit.training.loop import Arrays, Metrics, Sums
from dqnkit.transitions import Transitions


@dataclass
class _Window:
    """Sums over the log interval that is under way."""

    updates: float = 0.0
    loss: float = 0.0
    steps: float = 0.0
    exploration: float = 0.0
    episodes: float = 0.0
    returns: float = 0.0
    lengths: float = 0.0

    def metrics(self, iteration: int, env_steps: int) -> Metrics:
        """Its means."""
        return Sums(iteration, env_steps, **vars(self)).metrics()


@dataclass
class _Episodes:
    """What the episode of each environment has come to."""

    returns: np.ndarray
    lengths: np.ndarray

    @classmethod
    def fresh(cls, num_envs: int) -> _Episodes:
        """All at their beginning."""
        return cls(np.zeros(num_envs), np.zeros(num_envs))

    def count(self, step: Step, window: _Window) -> None:
        """Adds a step; episodes that it ended go into the window."""
        self.returns += np.where(step.stepped, step.reward, 0.0)
        self.lengths += step.stepped
        ended = step.done & step.stepped
        if ended.any():
            window.episodes += np.count_nonzero(ended)
            window.returns += self.returns[ended].sum()
            window.lengths += self.lengths[ended].sum()
            self.returns[ended] = self.lengths[ended] = 0.0


class HostLoop:
    """Training in Gymnasium's vector environments (`Loop`)."""

    def __init__(self, config: Config, spec: EnvSpec) -> None:
        """Makes environments, replay and agent.

        Args:
          config: Resolved.
          spec: Of its environment.

        Raises:
          ConfigError: They do not fit into this machine, or cannot be made.
        """
        seed = config.training.seed
        self._config = config
        self._spec = spec
        self._replay = host_replay(config, spec)
        self.learner = DqnLearner(config, spec, stream_key(seed, Stream.WEIGHTS))
        self._policy = HOST_POLICIES[config.exploration.policy]
        self._exploration = exploration_schedule(config.exploration)
        self._beta = beta_schedule(config)
        self._rng = np.random.Generator(np.random.Philox(stream_key(seed, Stream.TRAINING)))
        self._iteration = 0
        self._env_steps = 0
        self._window = _Window()
        self._trace()
        self._environment = VectorEnvironment(config.env, spec, config.env.num_envs)

    # -- Loop

    @property
    def iteration(self) -> int:
        """See `Loop`."""
        return self._iteration

    @property
    def env_steps(self) -> int:
        """See `Loop`."""
        return self._env_steps

    def start(self) -> None:
        """See `Loop`."""
        self._warm_up()
        if self._env_steps > 0:  # restored
            return
        self._begin_episodes()
        while self._env_steps < self._config.training.initial_collect_steps:
            actions = self._rng.integers(self._spec.num_actions, size=self._config.env.num_envs)
            self._step(actions, exploration=1.0)
        self._window = _Window()

    def advance(self, num_iterations: int) -> list[Metrics]:
        """See `Loop`."""
        metrics = []
        for _ in range(num_iterations):
            self._iterate()
            if self._iteration % self._config.training.log_interval == 0:
                metrics.append(self._window.metrics(self._iteration, self._env_steps))
                self._window = _Window()
        return metrics

    def flush(self) -> list[Metrics]:
        """See `Loop`."""
        if self._window.steps == 0:
            return []
        metrics = self._window.metrics(self._iteration, self._env_steps)
        self._window = _Window()
        return [metrics]

    def policy_weights(self) -> Weights:
        """See `Loop`."""
        return self.learner.policy_weights()

    def state(self) -> Arrays:
        """See `Loop`. The environments are not in it: a restored loop starts new episodes."""
        arrays = {
            "loop/counters": np.array([self._iteration, self._env_steps]),
            "loop/window": np.array(list(vars(self._window).values())),
        }
        arrays |= {f"random/{k}": v for k, v in _random_state(self._rng).items()}
        arrays |= {f"replay/{k}": v for k, v in self._replay.state().items()}
        return arrays | {f"agent/{k}": v.numpy() for k, v in self.learner.variables().items()}

    def restore(self, state: Arrays) -> None:
        """See `Loop`. Call it in place of `start`, or before it."""
        parts: dict[str, Arrays] = {"agent": {}, "replay": {}, "random": {}, "loop": {}}
        for name, value in state.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = value
        missing = {"counters", "window"} - set(parts["loop"])
        missing |= {"counter", "key", "buffer", "rest"} - set(parts["random"])
        if missing:
            raise ConfigError(
                f"the saved state has no {min(missing)!r}: it is not one of this loop"
            )
        self._replay.restore(parts["replay"])
        self.learner.restore(parts["agent"])
        _set_random_state(self._rng, parts["random"])
        self._iteration, self._env_steps = (int(x) for x in parts["loop"]["counters"])
        self._window = _Window(*map(float, parts["loop"]["window"]))
        self._begin_episodes()

    def close(self) -> None:
        """See `Loop`."""
        with ExitStack() as all_of_it:
            all_of_it.callback(self._replay.close)
            all_of_it.callback(self._environment.close)

    # -- Collecting

    def _begin_episodes(self) -> None:
        num_envs = self._config.env.num_envs
        # From the start, those of `seeds.training_environment_seeds`, which evaluation avoids.
        key = stream_key(self._config.training.seed, Stream.ENVIRONMENTS)
        self._environment.reset(stream_seeds(key, self._env_steps, num_envs))
        self._replay.begin(np.arange(num_envs), self._environment.frame)
        self._episodes = _Episodes.fresh(num_envs)
        self._q_values: np.ndarray | None = None

    def _iterate(self) -> None:
        training = self._config.training
        for _ in range(training.collect_steps_per_iteration):
            exploration = self._exploration(self._env_steps)
            shape = (self._config.env.num_envs, self._spec.num_actions)
            actions = self._policy(self._current_q_values, exploration, self._rng, shape)
            self._step(actions, exploration)
        if training.gradient_steps_per_iteration:
            self._update()
        self._iteration += 1

    def _step(self, actions: np.ndarray, exploration: float) -> None:
        """One step of every environment, into the replay."""
        self._q_values = None
        step = self._environment.step(actions)
        envs = np.flatnonzero(step.stepped)
        self._replay.add(
            envs, actions[envs], step.reward[envs], step.terminated[envs], step.frame[envs]
        )
        if step.started.any():
            begun = np.flatnonzero(step.started)
            self._replay.begin(begun, self._environment.frame[begun])
        self._env_steps += envs.size
        self._window.steps += envs.size
        self._window.exploration += exploration * envs.size
        self._episodes.count(step, self._window)

    def _current_q_values(self) -> np.ndarray:
        if self._q_values is None:
            observation = tf.constant(self._environment.observation)
            self._q_values = self._act(observation).numpy()
        return self._q_values

    # -- Learning

    def _update(self) -> None:
        training = self._config.training
        updates, batch_size = training.gradient_steps_per_iteration, training.batch_size
        sample = self._replay.sample(self._rng, updates * batch_size)
        scalars = sample.scalars.reshape(updates, batch_size, -1)
        if sample.priorities is not None:
            beta = self._beta(self._env_steps)
            weights = importance_weights(sample.priorities.reshape(updates, batch_size), beta)
            scalars = np.concatenate([scalars, weights[:, :, None]], axis=2)
        outcome = self._learn(
            tf.constant(sample.frames.reshape(updates, batch_size, *sample.frames.shape[1:])),
            tf.constant(scalars),
            tf.constant(self._environment.observation),
        ).numpy()
        loss, td_errors, q_values = np.split(outcome, [1, 1 + len(sample.rows)])
        self._replay.update_priorities(sample.rows, td_errors)
        self._q_values = q_values.reshape(-1, self._spec.num_actions)
        self._window.updates += updates
        self._window.loss += float(loss[0])

    def _trace(self) -> None:
        """Traces what the loop calls. tf.function stands here, at the outermost edge."""
        training, observation = self._config.training, self._spec.observation
        batch = [training.gradient_steps_per_iteration, training.batch_size]
        frames = [*batch, self._replay.frames_per_sample, *observation.frame_shape]
        scalars = 4 if self._config.replay.is_prioritized else 3
        acted_on = tf.TensorSpec([self._config.env.num_envs, *observation.shape], observation.dtype)
        self._learn_inputs = [
            tf.TensorSpec(frames, observation.dtype),
            tf.TensorSpec([*batch, scalars], tf.float32),
            acted_on,
        ]
        self._act = compiled(self.learner.q_values, acted_on)
        self._learn = compiled(self._learn_and_act, *self._learn_inputs)

    def _warm_up(self) -> None:
        """XLA compiles at a first call; what that one learns from zeros is taken back."""
        inputs = [tf.zeros(spec.shape, spec.dtype) for spec in self._learn_inputs]
        self._act(inputs[-1])
        if self._config.training.gradient_steps_per_iteration:
            kept = {name: value.numpy() for name, value in self.learner.variables().items()}
            self._learn(*inputs)
            self.learner.restore(kept)

    def _learn_and_act(self, frames: Tensor, scalars: Tensor, observation: Tensor) -> Tensor:
        """An update for each batch, then Q-values.

        Returns:
          The sum of the losses, the TD errors of all batches, and the Q-values; float32
          [1 + updates * batch_size + num_envs * num_actions], as one tensor because each one costs.
        """
        stack = self._spec.observation.frame_stack
        updates, batch_size = frames.shape[:2]

        def update(i: Tensor, loss: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            transitions, weights = _transitions(frames[i], scalars[i], stack)
            learned = self.learner.update(transitions, weights)
            errors = xla.dynamic_update_slice(
                errors, learned.td_errors, tf.reshape(i * batch_size, [1])
            )
            return i + 1, loss + learned.loss, errors

        start = (tf.constant(0), tf.constant(0.0), tf.zeros([updates * batch_size]))
        if updates == 1:  # without the cost of a loop
            _, loss, errors = update(*start)
        else:
            _, loss, errors = tf.while_loop(lambda i, *_: i < updates, update, start)
        q_values = tf.reshape(self.learner.q_values(observation), [-1])
        return tf.concat([loss[None], errors, q_values], axis=0)


def _transitions(frames: Tensor, scalars: Tensor, stack: int) -> tuple[Transitions, Tensor | None]:
    """A batch and its importance weights."""
    action, reward, discount, *weights = tf.unstack(scalars, axis=1)
    transitions = Transitions(
        frames[:, :stack], tf.cast(action, tf.int32), reward, discount, frames[:, -stack:]
    )
    return transitions, weights[0] if weights else None


def _random_state(rng: np.random.Generator) -> Arrays:
    """A Philox generator's state as arrays."""
    state: Any = rng.bit_generator.state
    rest = [state["buffer_pos"], state["has_uint32"], state["uinteger"]]
    return {**state["state"], "buffer": state["buffer"], "rest": np.array(rest, np.uint64)}


def _set_random_state(rng: np.random.Generator, arrays: Arrays) -> None:
    state: Any = rng.bit_generator.state
    state["state"] = {"counter": arrays["counter"], "key": arrays["key"]}
    state["buffer"] = arrays["buffer"]
    for name, value in zip(("buffer_pos", "has_uint32", "uinteger"), arrays["rest"], strict=True):
        state[name] = int(value)
    rng.bit_generator.state = state
