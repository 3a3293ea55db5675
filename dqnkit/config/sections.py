"""The configuration of a run: one frozen model a concern.

`load` in `dqnkit.config.loading` builds one from a YAML file and `--set` assignments;
`Config()` alone holds the defaults. Field names are those of TF-Agents' DQN tutorial
wherever it has one.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from dqnkit.config.distributions import SearchSpace
from dqnkit.config.fields import (
    AppliesTo,
    Count,
    Fraction,
    NonNegative,
    NonNegativeCount,
    Positive,
    Probability,
    Section,
    Whole,
)

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


Atoms = Annotated[Whole, Field(ge=2, le=1_000)]
Temperature = Annotated[float, Field(ge=1e-6, le=1e12)]
Return = Annotated[float, Field(ge=-1e30, le=1e30)]
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
    step_timeout: Annotated[Positive, Field(le=1e6)] | None = 300.0
    """Seconds that a step or reset of all environments may take outside the graph, until the run
    ends as failed; null lets it take for ever."""

    @field_validator("kwargs")
    @classmethod
    def _draws_nothing(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "render_mode" in kwargs:
            raise ValueError("leave render_mode out: training draws nothing")
        return kwargs


class AgentConfig(Section):
    """Deep Q-learning (Mnih et al., 2015) and its variants, as TF-Agents' agents of these names."""

    kind: Literal["dqn", "double_dqn", "c51", "double_c51"] = "dqn"
    """`double_dqn` lets the online network choose the action that the target network values (van
    Hasselt et al., 2016); `c51` learns the distribution of returns (Bellemare et al., 2017);
    `double_c51` is both."""
    gamma: Probability = 0.99
    """Discount factor of future rewards."""
    n_step: Annotated[Count, Field(le=100)] = 1
    """Rewards that a target sums before it bootstraps (Sutton, 1988); fewer where an episode ends,
    or the replay's newest step is met."""
    target_update_period: Count = 1
    """Updates between two updates of the target network."""
    target_update_tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the online network in a target update; 1 copies it."""
    loss: Annotated[
        Literal["squared", "huber"] | None, AppliesTo("squared", kind=("dqn", "double_dqn"))
    ] = None
    """Element-wise loss of the TD error (not `c51`); null takes squared."""
    gradient_clipping: Positive | None = None
    """Largest norm of the gradient of all weights; null leaves it alone."""
    num_atoms: Annotated[Atoms | None, AppliesTo(51, kind=("c51", "double_c51"))] = None
    """Returns that the distribution is made of (`c51`); null takes 51."""
    v_min: Annotated[Return | None, AppliesTo(kind=("c51", "double_c51"))] = None
    """The least of them (`c51`); null takes the least discounted return that the rewards allow,
    where they are known."""
    v_max: Annotated[Return | None, AppliesTo(kind=("c51", "double_c51"))] = None
    """The greatest of them (`c51`); null takes the greatest discounted return that the rewards
    allow, where they are known."""

    @model_validator(mode="after")
    def _values_have_a_range(self) -> Self:
        if self.v_min is not None and self.v_max is not None and self.v_min >= self.v_max:
            raise ValueError(
                f"v_min={self.v_min:g} is not below v_max={self.v_max:g}: the returns of c51 go "
                "from the one up to the other"
            )
        if self.v_min is not None and self.v_max is not None and self.num_atoms is not None:
            largest = max(abs(self.v_min), abs(self.v_max))
            if (self.v_max - self.v_min) / (self.num_atoms - 1) < largest * 2.0**-20:
                raise ValueError(
                    f"v_min={self.v_min:g} and v_max={self.v_max:g} are too near each other for "
                    f"num_atoms={self.num_atoms} returns between them that float32 can tell apart"
                )
        return self

    @property
    def is_categorical(self) -> bool:
        """Whether the network gives distributions of returns."""
        return self.kind in ("c51", "double_c51")


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
    dueling: bool = False
    """Adds up the state's value and each action's advantage (Wang et al., 2016); the last dense
    layer is divided between the two, half of its units each."""

    @model_validator(mode="after")
    def _both_streams_have_units(self) -> Self:
        if self.dueling and self.fc_layer_params and self.fc_layer_params[-1] < 2:
            raise ValueError(
                f"fc_layer_params={list(self.fc_layer_params)}: dueling=true divides the last "
                "layer between value and advantage: give it 2 units or more"
            )
        return self


class OptimizerConfig(Section):
    """Steps along the gradient, as Keras's optimizers of these names."""

    kind: Literal["adam", "adamw", "rmsprop"] = "adam"
    """`adam` (Kingma and Ba, 2015); `adamw` with decoupled weight decay (Loshchilov and Hutter,
    2019); `rmsprop` (Tieleman and Hinton, 2012)."""
    learning_rate: Positive = 1e-3
    """Step size; with a schedule, the first one."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How it goes to `final_learning_rate`: not at all, in a line, or in half a cosine (Loshchilov
    and Hutter, 2017)."""
    final_learning_rate: Annotated[
        NonNegative | None, AppliesTo(0.0, schedule=("linear", "cosine"))
    ] = None
    """Where a schedule ends; null takes 0."""
    decay_updates: Annotated[Count | None, AppliesTo(schedule=("linear", "cosine"))] = None
    """Updates that a schedule takes; null takes all of the training."""
    beta_1: Annotated[Fraction | None, AppliesTo(0.9, kind=("adam", "adamw"))] = None
    """Decay of the gradient's mean (`adam`, `adamw`); null takes 0.9."""
    beta_2: Annotated[Fraction | None, AppliesTo(0.999, kind=("adam", "adamw"))] = None
    """Decay of the squared gradient's mean (`adam`, `adamw`); null takes 0.999."""
    weight_decay: Annotated[NonNegative | None, AppliesTo(0.01, kind="adamw")] = None
    """Share of each weight, biases too, that a step takes away, times the step size (`adamw`); null
    takes 0.01."""
    rho: Annotated[Fraction | None, AppliesTo(0.9, kind="rmsprop")] = None
    """Decay of the squared gradient's mean (`rmsprop`); null takes 0.9."""
    momentum: Annotated[Fraction | None, AppliesTo(0.0, kind="rmsprop")] = None
    """Share of the last step that goes on (`rmsprop`); null takes 0."""
    centered: Annotated[bool | None, AppliesTo(False, kind="rmsprop")] = None
    """Whether the gradient's variance stands in place of its squared mean (`rmsprop`; Mnih et al.,
    2015); null takes false."""
    epsilon: Positive = 1e-7
    """Added to the denominator; with `rmsprop` below its root."""


class ExplorationConfig(Section):
    """The behaviour policy: how far it keeps from the greedy one."""

    policy: Literal["epsilon_greedy", "boltzmann"] = "epsilon_greedy"
    """`epsilon_greedy` takes a random action now and then; `boltzmann` takes each with probability
    in proportion to exp(Q / temperature)."""
    schedule: Literal["constant", "linear", "exponential"] = "constant"
    """How epsilon, or the temperature, goes from its initial value to its final one: it has that
    from the beginning, by the same amount each step, or by the same factor."""
    epsilon: Annotated[Probability | None, AppliesTo(0.1, policy="epsilon_greedy")] = None
    """Probability of a random action (`epsilon_greedy`), in the end where there is a schedule; null
    takes 0.1."""
    initial_epsilon: Annotated[
        Probability | None,
        AppliesTo(1.0, policy="epsilon_greedy", schedule=("linear", "exponential")),
    ] = None
    """Epsilon at environment step 0; initial collection counts as steps. Null takes 1."""
    temperature: Annotated[Temperature | None, AppliesTo(1.0, policy="boltzmann")] = None
    """Of the Boltzmann distribution, in units of return, in the end where there is a schedule; null
    takes 1."""
    initial_temperature: Annotated[
        Temperature | None, AppliesTo(10.0, policy="boltzmann", schedule=("linear", "exponential"))
    ] = None
    """The temperature at environment step 0; null takes 10."""
    decay_steps: Annotated[Count | None, AppliesTo(10_000, schedule=("linear", "exponential"))] = (
        None
    )
    """Environment steps from the initial value to the final one; null takes 10,000."""

    @model_validator(mode="after")
    def _a_factor_reaches_it(self) -> Self:
        if self.schedule == "exponential" and 0.0 in (self.epsilon, self.initial_epsilon):
            raise ValueError(
                f"schedule=exponential goes from initial_epsilon={self.initial_epsilon:g} to "
                f"epsilon={self.epsilon:g} by a factor, and no factor leads to or from 0: give "
                "numbers above 0, or schedule=linear"
            )
        return self

    @property
    def parameter(self) -> str:
        """What the schedule changes: epsilon or temperature."""
        return "epsilon" if self.policy == "epsilon_greedy" else "temperature"


_REVERB_PRIORITIZED = {"kind": "reverb", "sampler": "prioritized"}
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")


def is_address(text: str) -> bool:
    """Whether it is HOST:PORT."""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65_536
    return _HOST.fullmatch(host) is not None and is_port


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("give HOST:PORT, as `dqnkit replay-server` says it")
    return text


Address = Annotated[str, AfterValidator(_address)]


class ReplayConfig(Section):
    """Experience replay."""

    kind: Literal["uniform", "prioritized", "reverb"] = "uniform"
    """`prioritized` draws a transition in proportion to the size of its TD error when it was drawn
    last (Schaul et al., 2016); `reverb` keeps them in a server of DeepMind's Reverb (Cassirer et
    al., 2021), in the host loop."""
    replay_buffer_max_length: Count = 100_000
    """Transitions kept; the oldest are overwritten. In the host loop each episode's last frame
    takes the place of one, unless Reverb keeps them."""
    sampler: Annotated[
        Literal["uniform", "prioritized"] | None, AppliesTo("uniform", kind="reverb")
    ] = None
    """How a table of Reverb's is sampled (`reverb`), as the kinds of these names; null takes
    uniform."""
    address: Annotated[Address | None, AppliesTo(kind="reverb")] = None
    """HOST:PORT of a server that runs elsewhere, by `dqnkit replay-server` (`reverb`); null starts
    one in the process that trains."""
    samples_per_insert: Annotated[Positive | None, AppliesTo(kind="reverb")] = None
    """Transitions drawn for each one that is added, to which Reverb's rate limiter holds actors
    and learner (`reverb`); null takes what batches and steps of an iteration come to where there
    are actors, and no limiter where one process collects and learns in turn."""
    alpha: Annotated[
        Probability | None, AppliesTo(0.6, _REVERB_PRIORITIZED, kind="prioritized")
    ] = None
    """Exponent of priorities (`prioritized`): 0 draws uniformly; null takes 0.6."""
    initial_beta: Annotated[
        Probability | None, AppliesTo(0.4, _REVERB_PRIORITIZED, kind="prioritized")
    ] = None
    """Exponent of importance weights at environment step 0 (`prioritized`); null takes 0.4."""
    beta: Annotated[Probability | None, AppliesTo(1.0, _REVERB_PRIORITIZED, kind="prioritized")] = (
        None
    )
    """The exponent in the end: 1 makes up for all of the bias (`prioritized`); null takes 1."""
    beta_steps: Annotated[
        Count | None, AppliesTo(None, _REVERB_PRIORITIZED, kind="prioritized")
    ] = None
    """Environment steps from the one to the other, in a line (`prioritized`); null takes all of the
    training."""

    @property
    def is_prioritized(self) -> bool:
        """Whether priorities decide what is drawn, in whatever keeps it."""
        return "prioritized" in (self.kind, self.sampler)


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
    num_actors: Annotated[NonNegativeCount, Field(le=1_024)] | None = None
    """Processes that collect, each in `env.num_envs` environments, while this one learns from what
    they put into Reverb (`replay.kind=reverb`); 0 leaves all of them to other hosts. Null collects
    and learns in turn, in one process."""
    checkpoint_interval: Count | None = None
    """Iterations between checkpoints, from which `dqnkit train --resume` goes on; null writes one
    every ten seconds, or less often where that would cost more than a hundredth of the time."""
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
        if capacity < self.agent.n_step * num_envs:
            raise ValueError(
                f"agent.n_step={self.agent.n_step} is longer than the replay: "
                f"replay.replay_buffer_max_length={capacity} over env.num_envs={num_envs} keeps "
                f"{capacity // num_envs} steps of each environment; keep at least "
                f"{self.agent.n_step * num_envs} transitions"
            )
        if capacity < self.training.batch_size:
            raise ValueError(
                f"replay.replay_buffer_max_length={capacity} is less than "
                f"training.batch_size={self.training.batch_size}: a batch must fit into the replay"
            )
        self._check_actors()
        return self

    def _check_actors(self) -> None:
        actors, given = self.training.num_actors, self.replay.samples_per_insert
        if actors is not None and self.replay.kind != "reverb":
            raise ValueError(
                f"training.num_actors={actors}: actors hand over what they collect through Reverb, "
                f"and replay.kind is {self.replay.kind}: take replay.kind=reverb, or leave "
                "num_actors null"
            )
        if actors is not None and not self.training.gradient_steps_per_iteration:
            raise ValueError(
                f"training.gradient_steps_per_iteration=0 with training.num_actors={actors}: a "
                "learner apart from its actors does nothing but updates: take at least 1"
            )
        if actors == 0 and self.replay.address is None:
            raise ValueError(
                "training.num_actors=0: actors on other hosts need a server that they reach: start "
                "one by `dqnkit replay-server --host 0.0.0.0`, and give its replay.address"
            )
        if actors is None and given is not None and abs(given / self.drawn_per_step - 1) > 1e-6:
            raise ValueError(
                f"replay.samples_per_insert={given:g}: one process that collects and learns in "
                f"turn draws {self.drawn_per_step:g} transitions for each that it adds, by "
                "training.batch_size, gradient_steps_per_iteration, collect_steps_per_iteration "
                "and env.num_envs: leave it null, or let training.num_actors collect"
            )

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps an iteration, over all environments."""
        return self.training.collect_steps_per_iteration * self.env.num_envs

    @property
    def num_env_steps(self) -> int:
        """Environment steps in a whole training, initial collection included.

        In the host loop a few less, where environments spend steps on resets.
        """
        initial = -(-self.training.initial_collect_steps // self.env.num_envs) * self.env.num_envs
        if self.replay.samples_per_insert is not None:
            drawn = self.num_updates * self.training.batch_size
            return initial + round(drawn / self.replay.samples_per_insert)
        return initial + self.training.num_iterations * self.steps_per_iteration

    @property
    def drawn_per_step(self) -> float:
        """Transitions that updates draw for each environment step of an iteration."""
        drawn = self.training.gradient_steps_per_iteration * self.training.batch_size
        return drawn / self.steps_per_iteration

    @property
    def num_updates(self) -> int:
        """Updates in a whole training."""
        return self.training.num_iterations * self.training.gradient_steps_per_iteration

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
