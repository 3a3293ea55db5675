"""Measures Stable-Baselines3's DQN with the network, batch size and updates of `dqnkit_loop.py`.

Called by `speed.py`, in a separate environment (`requirements-sb3.txt`). Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

warnings.filterwarnings("ignore")

import torch
from stable_baselines3 import DQN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="CartPole-v0")
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--train-freq", type=int, default=1, help="steps before each training")
    args = parser.parse_args()

    torch.set_num_threads(1)  # the default of one per core is slower here
    model = DQN(
        "MlpPolicy",
        args.env,
        learning_rate=1e-3,
        buffer_size=100_000,
        learning_starts=100,
        batch_size=64,
        tau=1.0,
        gamma=1.0,
        train_freq=args.train_freq,
        gradient_steps=args.train_freq,
        target_update_interval=1,
        exploration_fraction=1e-6,
        exploration_final_eps=0.1,
        policy_kwargs={"net_arch": [100, 50]},
        device="cpu",
        seed=0,
    )
    model.learn(1_000)
    start = time.perf_counter()
    model.learn(args.steps, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    print(json.dumps({"steps_per_second": args.steps / seconds}))


if __name__ == "__main__":
    main()
