"""Measures the DQN loop of the TF-Agents tutorial, the baseline of `speed.py`.

Each iteration is one `PyDriver` step with a `PyTFEagerPolicy`, one batch from the replay through
`tf.data` and one `agent.train`, on CartPole-v0 with the tutorial's settings. The tutorial's replay,
Reverb (`--replay reverb`), does not work with current versions of TensorFlow; the default here is
`TFUniformReplayBuffer`, which an earlier version of the tutorial used.

Prints one JSON document with the iterations per second of each round or, with `--evaluate`, the
seconds that the whole tutorial takes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore")

import gymnasium
import numpy as np
import tensorflow as tf
from tf_agents.agents.dqn import dqn_agent
from tf_agents.drivers import py_driver
from tf_agents.environments import py_environment, tf_py_environment
from tf_agents.networks import sequential
from tf_agents.policies import py_tf_eager_policy, random_tf_policy
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

LEARNING_RATE = 1e-3
BATCH_SIZE = 64
REPLAY_BUFFER_MAX_LENGTH = 100_000
INITIAL_COLLECT_STEPS = 100
EVAL_INTERVAL = 1_000
NUM_EVAL_EPISODES = 10
TIME_LIMIT = 200


class CartPole(py_environment.PyEnvironment):
    """Gymnasium's CartPole as a TF-Agents environment, in place of `suite_gym.load`.

    TF-Agents 0.19 can wrap environments of the old Gym only.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._env = gymnasium.make("CartPole-v0").unwrapped
        self._seed: int | None = seed
        self._steps = 0
        space = self._env.observation_space
        self._observation_spec = array_spec.BoundedArraySpec(
            space.shape, space.dtype, space.low, space.high, name="observation"
        )
        self._action_spec = array_spec.BoundedArraySpec((), np.int64, 0, 1, name="action")

    def action_spec(self):
        return self._action_spec

    def observation_spec(self):
        return self._observation_spec

    def _reset(self):
        observation, _ = self._env.reset(seed=self._seed)
        self._seed = None
        self._steps = 0
        return ts.restart(observation)

    def _step(self, action):
        if self._current_time_step.is_last():
            return self.reset()
        observation, reward, terminated, _, _ = self._env.step(int(action))
        self._steps += 1
        reward = np.float32(reward)
        if terminated:
            return ts.termination(observation, reward)
        if self._steps >= TIME_LIMIT:
            return ts.truncation(observation, reward)
        return ts.transition(observation, reward)


def dense_layer(num_units: int) -> tf.keras.layers.Dense:
    return tf.keras.layers.Dense(
        num_units,
        activation=tf.keras.activations.relu,
        kernel_initializer=tf.keras.initializers.VarianceScaling(
            scale=2.0, mode="fan_in", distribution="truncated_normal"
        ),
    )


def build_agent(env: tf_py_environment.TFPyEnvironment) -> dqn_agent.DqnAgent:
    q_values_layer = tf.keras.layers.Dense(
        2,
        kernel_initializer=tf.keras.initializers.RandomUniform(minval=-0.03, maxval=0.03),
        bias_initializer=tf.keras.initializers.Constant(-0.2),
    )
    agent = dqn_agent.DqnAgent(
        env.time_step_spec(),
        env.action_spec(),
        q_network=sequential.Sequential([dense_layer(100), dense_layer(50), q_values_layer]),
        optimizer=tf.keras.optimizers.Adam(learning_rate=LEARNING_RATE),
        td_errors_loss_fn=common.element_wise_squared_loss,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    return agent


def compute_avg_return(env: tf_py_environment.TFPyEnvironment, policy, num_episodes: int) -> float:
    total = 0.0
    for _ in range(num_episodes):
        time_step = env.reset()
        while not time_step.is_last():
            time_step = env.step(policy.action(time_step).action)
            total += float(time_step.reward[0])
    return total / num_episodes


def uniform_replay(agent: dqn_agent.DqnAgent):
    """Return a `TFUniformReplayBuffer` and the observer that adds trajectories to it."""
    replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(
        agent.collect_data_spec, batch_size=1, max_length=REPLAY_BUFFER_MAX_LENGTH
    )

    def add(item: trajectory.Trajectory) -> None:
        replay.add_batch(tf.nest.map_structure(lambda x: tf.expand_dims(x, 0), item))

    return replay, add


def reverb_replay(agent: dqn_agent.DqnAgent):
    """Return a Reverb replay buffer and its observer, as in the tutorial."""
    import reverb
    from tf_agents.replay_buffers import reverb_replay_buffer, reverb_utils
    from tf_agents.specs import tensor_spec

    signature = tensor_spec.add_outer_dim(tensor_spec.from_spec(agent.collect_data_spec))
    table = reverb.Table(
        "uniform_table",
        max_size=REPLAY_BUFFER_MAX_LENGTH,
        sampler=reverb.selectors.Uniform(),
        remover=reverb.selectors.Fifo(),
        rate_limiter=reverb.rate_limiters.MinSize(1),
        signature=signature,
    )
    replay = reverb_replay_buffer.ReverbReplayBuffer(
        agent.collect_data_spec,
        table_name="uniform_table",
        sequence_length=2,
        local_server=reverb.Server([table]),
    )
    observer = reverb_utils.ReverbAddTrajectoryObserver(
        replay.py_client, "uniform_table", sequence_length=2
    )
    return replay, observer


REPLAYS = {"buffer": uniform_replay, "reverb": reverb_replay}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=2_000, help="iterations per round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--replay", default="buffer", choices=REPLAYS)
    parser.add_argument("--evaluate", action="store_true", help="run the whole tutorial once")
    args = parser.parse_args()

    started = time.perf_counter()
    train_py_env, eval_py_env = CartPole(seed=1), CartPole(seed=2)
    train_env = tf_py_environment.TFPyEnvironment(train_py_env)
    eval_env = tf_py_environment.TFPyEnvironment(eval_py_env)
    agent = build_agent(train_env)
    replay, add = REPLAYS[args.replay](agent)

    random_policy = random_tf_policy.RandomTFPolicy(
        train_env.time_step_spec(), train_env.action_spec()
    )
    py_driver.PyDriver(
        train_py_env,
        py_tf_eager_policy.PyTFEagerPolicy(random_policy, use_tf_function=True),
        [add],
        max_steps=INITIAL_COLLECT_STEPS,
    ).run(train_py_env.reset())

    dataset = replay.as_dataset(
        num_parallel_calls=3, sample_batch_size=BATCH_SIZE, num_steps=2
    ).prefetch(3)
    iterator = iter(dataset)
    agent.train = common.function(agent.train)
    driver = py_driver.PyDriver(
        train_py_env,
        py_tf_eager_policy.PyTFEagerPolicy(agent.collect_policy, use_tf_function=True),
        [add],
        max_steps=1,
    )
    time_step = train_py_env.reset()

    def iterate(count: int) -> None:
        nonlocal time_step
        for _ in range(count):
            time_step, _ = driver.run(time_step)
            experience, _ = next(iterator)
            agent.train(experience)

    returns = []
    if args.evaluate:
        returns.append(compute_avg_return(eval_env, agent.policy, NUM_EVAL_EPISODES))
        for _ in range(args.iterations // EVAL_INTERVAL):
            iterate(EVAL_INTERVAL)
            returns.append(compute_avg_return(eval_env, agent.policy, NUM_EVAL_EPISODES))
        rates = []
    else:
        iterate(100)
        rates = []
        for _ in range(args.rounds):
            start = time.perf_counter()
            iterate(args.iterations)
            rates.append(args.iterations / (time.perf_counter() - start))
    print(
        json.dumps(
            {
                "iterations_per_second": rates,
                "seconds": time.perf_counter() - started,
                "returns": returns,
            }
        )
    )


if __name__ == "__main__":
    main()
