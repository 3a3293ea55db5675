"""The configuration of a run: one frozen model a concern.

`load` in `dqnkit.experiments` builds one from a YAML file and `--set` assignments;
`Config()` alone holds the defaults. Field names are those of TF-Agents' DQN tutorial
wherever it has one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dqnkit.distributions import SearchSpace
from dqnkit.fields import Count, NonNegativeCount, Positive, Probability, Section, Whole

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _wrapper(value: Any) -> Any:
    """`path` and `path: {argument: value}` are short for `{path: …, kwargs: …}`."""
    if isinstance(value, str):
        return {"path": value}
    if isinstance(value, dict) and len(value) > 1 and "path" not in value:
        raise ValueError("each wrapper takes an entry of its own in the list")
    if isinstance(value, dict) and len(value) == 1 and "path" not in value:
        ((path, kwargs),) = value.items()
        return {"path": path, "kwargs": {} if kwargs is None else kwargs}
    return value


class WrapperConfig(Section):
    """A `gymnasium.Wrapper` and its arguments."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*([.:][A-Za-z_]\w*)+$")]
    """Dotted path of the class, such as `gymnasium.wrappers.ClipReward`."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments behind the environment, by name; lists arrive as tuples, which YAML has not."""


Wrappers = Annotated[
    tuple[Annotated[WrapperConfig, BeforeValidator(_wrapper)], ...],
    Field(strict=False, max_length=32),
]


class EnvConfig(Section):
    """The environment that is trained in."""

    id: Annotated[str, Field(min_length=1)] = "CartPole-v1"
    """Gymnasium id; `module:Id` imports the module that registers it first."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of `gymnasium.make`."""
    wrappers: Wrappers = ()
    """Wrappers from the innermost outwards: `path` or `path: {argument: value}` each."""
    frame_stack: Annotated[Count, Field(le=64)] = 1
    """Consecutive frames that make an observation; the replay keeps each frame once."""
    num_envs: Annotated[Count, Field(le=65_536)] = 1
    """Environments stepped together; each gives one transition a collect step."""
    vectorization: Literal["sync", "async", "vector_entry_point"] = "sync"
    """How they are stepped outside the graph: in turn, in a process each, or by the
    environment's own vector class."""

    @field_validator("kwargs")
    @classmethod
    def _draws_nothing(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "render_mode" in kwargs:
            raise ValueError("leave render_mode out: training draws nothing")
        return kwargs


class AgentConfig(Section):
    """Deep Q-learning (Mnih et al., 2015), as TF-Agents' `DqnAgent`."""

    gamma: Probability = 0.99
    """Discount factor of future rewards."""
    target_update_period: Count = 1
    """Updates between two updates of the target network."""
    target_update_tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the online network in a target update; 1 copies it."""
    loss: Literal["squared", "huber"] = "squared"
    """Element-wise loss of the TD error."""
    gradient_clipping: Positive | None = None
    """Largest norm of the gradient of all weights; null leaves it alone."""


Units = Annotated[Count, Field(le=16_384)]
ConvLayer = Annotated[tuple[Units, Units, Units], Field(strict=False)]


class NetworkConfig(Section):
    """The Q-network: convolutions for images, dense ReLU layers, one linear output an action."""

    conv_layer_params: (
        Annotated[tuple[ConvLayer, ...], Field(strict=False, max_length=32)] | None
    ) = None
    """[filters, kernel, stride] of each convolution; null takes the Nature DQN's for images,
    MinAtar's for those too small for it, and none for anything else."""
    fc_layer_params: Annotated[tuple[Units, ...], Field(strict=False, max_length=32)] | None = None
    """Units of each dense layer, upwards; [] makes the Q-function linear in what is below; null
    takes those of the same default, and [100, 50] where there are no convolutions."""


class OptimizerConfig(Section):
    """Adam (Kingma and Ba, 2015)."""

    learning_rate: Positive = 1e-3
    """Step size of Adam."""


class ExplorationConfig(Section):
    """The epsilon-greedy behaviour policy."""

    schedule: Literal["constant", "linear"] = "constant"
    """`constant` keeps `epsilon`; `linear` goes from `initial_epsilon` to `epsilon`."""
    epsilon: Probability = 0.1
    """Probability of a random action; with `linear`, the final one."""
    initial_epsilon: Probability = 1.0
    """Epsilon at environment step 0; initial collection counts as steps (`linear` only)."""
    decay_steps: Count = 10_000
    """Environment steps from `initial_epsilon` to `epsilon` (`linear` only)."""


class ReplayConfig(Section):
    """Uniform experience replay."""

    replay_buffer_max_length: Count = 100_000
    """Transitions kept; the oldest are overwritten. In the host loop each episode's last frame
    takes the place of one."""


class TrainingConfig(Section):
    """The loop: collect, then update."""

    loop: Literal["auto", "graph", "host"] = "auto"
    """`graph` compiles the environment too, `host` steps it in Python; `auto` takes the graph
    where the environment has a version in it."""
    num_iterations: Count = 20_000
    """Iterations of collecting and updating."""
    initial_collect_steps: Count = 100
    """Environment steps with random actions before the first update."""
    collect_steps_per_iteration: Annotated[Count, Field(le=10_000)] = 1
    """Steps in each of `env.num_envs` environments before the updates of an iteration."""
    gradient_steps_per_iteration: Annotated[NonNegativeCount, Field(le=10_000)] = 1
    """Updates an iteration."""
    batch_size: Annotated[Count, Field(le=1_048_576)] = 64
    """Transitions an update."""
    log_interval: Count = 200
    """Iterations averaged into one point of the training metrics."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    """Decides initial weights, environments, exploration, sampling and evaluation."""


class EvaluationConfig(Section):
    """Greedy episodes in environments of their own, between chunks of training."""

    num_eval_episodes: Annotated[Count, Field(le=100_000)] = 10
    """Episodes an evaluation, played as one batch."""
    eval_interval: Count = 1_000
    """Iterations between two evaluations."""
    final_episodes: Annotated[Count, Field(le=100_000)] = 100
    """Fresh episodes of the best policy after training; no choice was made by them."""
    max_episode_steps: Count = 27_000
    """Where an evaluation breaks an episode off that the environment lets go on: half an hour of
    an Atari game at 15 steps a second (Machado et al., 2018)."""
    wrappers: Wrappers | None = None
    """Wrappers in place of `env.wrappers`, for scores that training's wrappers would change;
    null takes those."""


class TrackingConfig(Section):
    """What is recorded in MLflow. Where to is the caller's: `--tracking-uri`."""

    enabled: bool = True
    """False trains without a record."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Further tags of the MLflow run."""


class Config(Section):
    """Everything that decides a run. `dump` of it in `config.yaml` repeats the run."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)] = "dqn"
    """Name of the experiment in MLflow; the file's name where it is not given."""
    description: str = ""
    """Shown with the run in MLflow (Markdown)."""
    env: EnvConfig = EnvConfig()
    agent: AgentConfig = AgentConfig()
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    replay: ReplayConfig = ReplayConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    search: SearchSpace = Field(default_factory=dict)
    """What `dqnkit tune` may change, by `section.key`; empty takes learning rate, layer sizes and
    batch size."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        capacity, num_envs = self.replay.replay_buffer_max_length, self.env.num_envs
        if capacity < num_envs:
            raise ValueError(
                f"replay.replay_buffer_max_length={capacity} is less than env.num_envs={num_envs}: "
                "one step of all environments must fit into the replay"
            )
        if self.env.vectorization == "vector_entry_point":
            for key, wrappers in (
                ("env.wrappers", self.env.wrappers),
                ("evaluation.wrappers", self.evaluation.wrappers),
            ):
                if wrappers:
                    raise ValueError(
                        f"{key} holds {wrappers[0].path}, and env.vectorization=vector_entry_point "
                        "has no single environments to wrap: take sync or async"
                    )
        if capacity < self.training.batch_size:
            raise ValueError(
                f"replay.replay_buffer_max_length={capacity} is less than "
                f"training.batch_size={self.training.batch_size}: a batch must fit into the replay"
            )
        return self

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps an iteration, over all environments."""
        return self.training.collect_steps_per_iteration * self.env.num_envs

    @property
    def num_evaluations(self) -> int:
        """Evaluations in a training, that before it aside."""
        return -(-self.training.num_iterations // self.evaluation.eval_interval)

    def with_seed(self, seed: int) -> Config:
        """The same with another seed."""
        return self.model_copy(update={"training": self.training.model_copy(update={"seed": seed})})

    def flat(self) -> dict[str, Any]:
        """What decides a run as `{"section.key": value}`, as MLflow's parameters hold it."""
        flat: dict[str, Any] = {}
        for section, value in self.model_dump(mode="json", exclude={"search"}).items():
            if isinstance(value, dict):
                flat.update({f"{section}.{key}": entry for key, entry in value.items()})
            else:
                flat[section] = value
        return flat
