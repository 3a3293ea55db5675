"""Sections of the configuration of a run, and `Config`, which combines them.

`dqnkit.config.loading.load` builds a `Config` from a YAML file and overrides; `Config()` holds the
defaults. Keys have the names of TF-Agents' DQN tutorial where the tutorial has the same setting.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from dqnkit.config.distributions import SearchSpace
from dqnkit.config.fields import (
    AppliesTo,
    CombinationError,
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


def _expand_wrapper(value: Any) -> Any:
    """Expand the short forms `path` and `path: {argument: value}` to `{path: …, kwargs: …}`."""
    if isinstance(value, str):
        return {"path": value}
    if isinstance(value, dict) and len(value) > 1 and "path" not in value:
        raise ValueError("write each wrapper as an entry of its own in the list")
    if isinstance(value, dict) and len(value) == 1 and "path" not in value:
        ((path, kwargs),) = value.items()
        return {"path": path, "kwargs": {} if kwargs is None else kwargs}
    return value


class WrapperConfig(Section):
    """A `gymnasium.Wrapper` and its arguments."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*([.:][A-Za-z_]\w*)+$")]
    """Dotted path of the class, such as `gymnasium.wrappers.ClipReward`."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class; lists are passed as tuples, which YAML does not have."""


Atoms = Annotated[Whole, Field(ge=2, le=1_000)]
Temperature = Annotated[float, Field(ge=1e-6, le=1e12)]
Return = Annotated[float, Field(ge=-1e30, le=1e30)]
Wrappers = Annotated[
    tuple[Annotated[WrapperConfig, BeforeValidator(_expand_wrapper)], ...],
    Field(strict=False, max_length=32),
]


class EnvConfig(Section):
    """The training environment."""

    id: Annotated[str, Field(min_length=1)] = "CartPole-v1"
    """Gymnasium id of the environment. `module:Id` first imports `module`, which registers the
    id."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of `gymnasium.make`."""
    wrappers: Wrappers = ()
    """Wrappers around the environment, the innermost first. Each is `path` or `path: {argument:
    value}`."""
    frame_stack: Annotated[Count, Field(le=64)] = 1
    """Number of consecutive frames in an observation. The replay stores each frame once."""
    channels: Literal["auto", "first", "last"] = "auto"
    """Axis of the channels of images with three axes. `auto` takes the axis beside two equal ones,
    or else the shorter of the first and the last."""
    num_envs: Annotated[Count, Field(le=65_536)] = 1
    """Number of environments that are stepped together. Each adds one transition per collect
    step."""
    vectorization: Literal["sync", "async", "vector_entry_point"] = "sync"
    """Stepping of the environments in the host loop: `sync` one after another, `async` in one
    process each, `vector_entry_point` with the environment's own vector class."""
    step_timeout: Annotated[Positive, Field(le=1e6)] | None = 300.0
    """Seconds that a step or reset of all environments may take in the host loop before the run
    fails. Null means no limit."""

    @field_validator("kwargs")
    @classmethod
    def _check_render_mode(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kwargs.get("render_mode") not in {None, "rgb_array"}:
            raise ValueError(
                "remove render_mode, or set it to rgb_array for observations that are drawn "
                "(gymnasium.wrappers.AddRenderObservation)"
            )
        return kwargs


class AgentConfig(Section):
    """Deep Q-learning (Mnih et al., 2015) and its variants."""

    kind: Literal["dqn", "double_dqn", "c51", "double_c51"] = "dqn"
    """`double_dqn` lets the online network choose the action that the target network evaluates (van
    Hasselt et al., 2016). `c51` learns the distribution of returns (Bellemare et al., 2017).
    `double_c51` combines both."""
    gamma: Probability = 0.99
    """Discount factor."""
    n_step: Annotated[Count, Field(le=100)] = 1
    """Number of rewards that a target sums before it bootstraps (Sutton, 1988). The sum is shorter
    if the episode ends, or if the newest step of the replay is reached."""
    target_update_period: Count = 1
    """Number of updates between two updates of the target network."""
    target_update_tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Weight of the online network in an update of the target network. 1 copies the online
    network."""
    loss: Annotated[
        Literal["squared", "huber"] | None, AppliesTo("squared", kind=("dqn", "double_dqn"))
    ] = None
    """Element-wise loss of the TD error, `squared` or `huber` (`dqn`, `double_dqn`). Null means
    `squared`."""
    gradient_clipping: Positive | None = None
    """Maximum norm of the gradient over all weights. Null disables clipping."""
    num_atoms: Annotated[Atoms | None, AppliesTo(51, kind=("c51", "double_c51"))] = None
    """Number of returns in the support of the distribution (`c51`, `double_c51`). Null means 51."""
    v_min: Annotated[Return | None, AppliesTo(kind=("c51", "double_c51"))] = None
    """Smallest return in the support of the distribution (`c51`, `double_c51`). Null means the
    smallest possible discounted return, if the environment's rewards are known."""
    v_max: Annotated[Return | None, AppliesTo(kind=("c51", "double_c51"))] = None
    """Largest return in the support of the distribution (`c51`, `double_c51`). Null means the
    largest possible discounted return, if the environment's rewards are known."""

    @model_validator(mode="after")
    def _check_support(self) -> Self:
        if self.v_min is not None and self.v_max is not None and self.v_min >= self.v_max:
            raise CombinationError(
                f"v_min={self.v_min:g} is not below v_max={self.v_max:g}: the atoms of c51 range "
                "from v_min up to v_max",
                "v_min",
                "v_max",
            )
        if self.v_min is not None and self.v_max is not None and self.num_atoms is not None:
            largest = max(abs(self.v_min), abs(self.v_max))
            if (self.v_max - self.v_min) / (self.num_atoms - 1) < largest * 2.0**-20:
                raise CombinationError(
                    f"v_min={self.v_min:g} and v_max={self.v_max:g} are too close together for "
                    f"num_atoms={self.num_atoms}: float32 cannot tell neighbouring atoms apart; "
                    "widen the range or take fewer atoms",
                    "v_min",
                    "v_max",
                    "num_atoms",
                )
        return self

    @property
    def is_categorical(self) -> bool:
        """True if the network predicts distributions of returns."""
        return self.kind in ("c51", "double_c51")


Units = Annotated[Count, Field(le=16_384)]
ConvLayer = Annotated[tuple[Units, Units, Units], Field(strict=False)]


class NetworkConfig(Section):
    """The Q-network: convolutions for images, dense ReLU layers, one linear output per action."""

    conv_layer_params: (
        Annotated[tuple[ConvLayer, ...], Field(strict=False, max_length=32)] | None
    ) = None
    """`[filters, kernel, stride]` of each convolution. Null means those of the Nature DQN for
    images, those of MinAtar for images that are too small for these, and none for other
    observations."""
    fc_layer_params: Annotated[tuple[Units, ...], Field(strict=False, max_length=32)] | None = None
    """Number of units of each dense layer, from input to output. `[]` makes the output linear in
    the features below it. Null means the dense layers that belong to the default convolutions, and
    `[100, 50]` if there are no convolutions."""
    dueling: bool = False
    """Add a state value and the advantages of the actions (Wang et al., 2016). The last dense layer
    is divided between the two streams, half of its units each."""

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        if self.dueling and self.fc_layer_params and self.fc_layer_params[-1] < 2:
            raise CombinationError(
                f"fc_layer_params={list(self.fc_layer_params)}: dueling=true splits the last "
                "layer between value and advantage, so it needs at least 2 units",
                "fc_layer_params",
                "dueling",
            )
        return self


class OptimizerConfig(Section):
    """Keras's optimizers of the same names."""

    kind: Literal["adam", "adamw", "rmsprop"] = "adam"
    """`adam` (Kingma and Ba, 2015), `adamw` with decoupled weight decay (Loshchilov and Hutter,
    2019), or `rmsprop` (Tieleman and Hinton, 2012)."""
    learning_rate: Positive = 1e-3
    """Learning rate. With a schedule, the initial learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate towards `optimizer.final_learning_rate`: `constant` does not
    change it, `linear` follows a line, `cosine` half a cosine (Loshchilov and Hutter, 2017)."""
    final_learning_rate: Annotated[
        NonNegative | None, AppliesTo(0.0, schedule=("linear", "cosine"))
    ] = None
    """Learning rate at the end of a schedule (`linear`, `cosine`). Null means 0."""
    decay_updates: Annotated[Count | None, AppliesTo(schedule=("linear", "cosine"))] = None
    """Number of updates that a schedule takes (`linear`, `cosine`). Null means all updates of the
    run."""
    beta_1: Annotated[Fraction | None, AppliesTo(0.9, kind=("adam", "adamw"))] = None
    """Decay rate of the gradient's running mean (`adam`, `adamw`). Null means 0.9."""
    beta_2: Annotated[Fraction | None, AppliesTo(0.999, kind=("adam", "adamw"))] = None
    """Decay rate of the squared gradient's running mean (`adam`, `adamw`). Null means 0.999."""
    weight_decay: Annotated[NonNegative | None, AppliesTo(0.01, kind="adamw")] = None
    """Share of each weight, biases included, that a step subtracts, multiplied by the learning rate
    (`adamw`). Null means 0.01."""
    rho: Annotated[Fraction | None, AppliesTo(0.9, kind="rmsprop")] = None
    """Decay rate of the squared gradient's running mean (`rmsprop`). Null means 0.9."""
    momentum: Annotated[Fraction | None, AppliesTo(0.0, kind="rmsprop")] = None
    """Share of the previous step that is added to a step (`rmsprop`). Null means 0."""
    centered: Annotated[bool | None, AppliesTo(False, kind="rmsprop")] = None
    """Divide by the gradient's variance instead of its squared mean (`rmsprop`; Mnih et al., 2015).
    Null means false."""
    epsilon: Positive = 1e-7
    """Constant added to the denominator of a step. With `rmsprop` it is added under the square
    root."""


class ExplorationConfig(Section):
    """The behaviour policy that collects transitions."""

    policy: Literal["epsilon_greedy", "boltzmann"] = "epsilon_greedy"
    """`epsilon_greedy` takes a random action with probability epsilon. `boltzmann` takes each
    action with probability proportional to exp(Q / temperature)."""
    schedule: Literal["constant", "linear", "exponential"] = "constant"
    """Course of epsilon, or of the temperature, from its initial to its final value: `constant`
    keeps the final value throughout, `linear` changes it by the same amount in each step,
    `exponential` by the same factor."""
    epsilon: Annotated[Probability | None, AppliesTo(0.1, policy="epsilon_greedy")] = None
    """Probability of a random action (`epsilon_greedy`). With a schedule, the final probability.
    Null means 0.1."""
    initial_epsilon: Annotated[
        Probability | None,
        AppliesTo(1.0, policy="epsilon_greedy", schedule=("linear", "exponential")),
    ] = None
    """Epsilon at environment step 0 of a schedule (`epsilon_greedy`). Initial collection counts as
    steps. Null means 1."""
    temperature: Annotated[Temperature | None, AppliesTo(1.0, policy="boltzmann")] = None
    """Temperature of the Boltzmann distribution, in units of the return (`boltzmann`). With a
    schedule, the final temperature. Null means 1."""
    initial_temperature: Annotated[
        Temperature | None, AppliesTo(10.0, policy="boltzmann", schedule=("linear", "exponential"))
    ] = None
    """Temperature at environment step 0 of a schedule (`boltzmann`). Null means 10."""
    decay_steps: Annotated[Count | None, AppliesTo(10_000, schedule=("linear", "exponential"))] = (
        None
    )
    """Number of environment steps from the initial to the final value (`linear`, `exponential`).
    Null means 10,000."""

    @model_validator(mode="after")
    def _check_exponential(self) -> Self:
        if self.schedule == "exponential" and 0.0 in (self.epsilon, self.initial_epsilon):
            raise CombinationError(
                f"schedule=exponential multiplies initial_epsilon={self.initial_epsilon:g} by a "
                f"factor per step until epsilon={self.epsilon:g}, and no factor leads to or from "
                "0: use values above 0, or schedule=linear",
                "schedule",
                "initial_epsilon",
                "epsilon",
            )
        return self

    @property
    def parameter(self) -> str:
        """Name of the scheduled parameter: `epsilon` or `temperature`."""
        return "epsilon" if self.policy == "epsilon_greedy" else "temperature"


_REVERB_PRIORITIZED = {"kind": "reverb", "sampler": "prioritized"}
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")


def is_address(text: str) -> bool:
    """Return whether a text has the form HOST:PORT."""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65_536
    return _HOST.fullmatch(host) is not None and is_port


def _address(text: str) -> str:
    if not is_address(text):
        raise ValueError("write HOST:PORT, as printed by `dqnkit replay-server`")
    return text


Address = Annotated[str, AfterValidator(_address)]


class ReplayConfig(Section):
    """Experience replay."""

    kind: Literal["uniform", "prioritized", "reverb"] = "uniform"
    """`prioritized` samples a transition in proportion to the magnitude of its last TD error
    (Schaul et al., 2016). `reverb` keeps transitions in a server of DeepMind's Reverb (Cassirer et
    al., 2021) and needs the host loop."""
    replay_buffer_max_length: Count = 100_000
    """Maximum number of transitions; the oldest are overwritten. In the host loop the last frame of
    each episode takes the place of one transition, except with Reverb."""
    sampler: Annotated[
        Literal["uniform", "prioritized"] | None, AppliesTo("uniform", kind="reverb")
    ] = None
    """Sampling of a Reverb table (`reverb`): `uniform` or `prioritized`, like the kinds of the same
    names. Null means `uniform`."""
    address: Annotated[Address | None, AppliesTo(kind="reverb")] = None
    """HOST:PORT of a server that `dqnkit replay-server` runs elsewhere (`reverb`). Null starts a
    server in the training process."""
    samples_per_insert: Annotated[Positive | None, AppliesTo(kind="reverb")] = None
    """Number of transitions sampled for each one inserted, enforced by Reverb's rate limiter
    (`reverb`). Null means the ratio that batch size, updates and steps of an iteration imply if
    there are actors or a server elsewhere, and no limit if one process collects and learns with a
    server of its own."""
    alpha: Annotated[
        Probability | None, AppliesTo(0.6, _REVERB_PRIORITIZED, kind="prioritized")
    ] = None
    """Exponent of the priorities (prioritized replay). 0 samples uniformly. Null means 0.6."""
    initial_beta: Annotated[
        Probability | None, AppliesTo(0.4, _REVERB_PRIORITIZED, kind="prioritized")
    ] = None
    """Exponent of the importance weights at environment step 0 (prioritized replay). Null means
    0.4."""
    beta: Annotated[Probability | None, AppliesTo(1.0, _REVERB_PRIORITIZED, kind="prioritized")] = (
        None
    )
    """Final exponent of the importance weights (prioritized replay). 1 corrects the whole bias.
    Null means 1."""
    beta_steps: Annotated[
        Count | None, AppliesTo(None, _REVERB_PRIORITIZED, kind="prioritized")
    ] = None
    """Number of environment steps over which the exponent of the importance weights changes
    linearly (prioritized replay). Null means all steps of the run."""

    @property
    def is_prioritized(self) -> bool:
        """True if transitions are sampled by priority, in dqnkit's replay or in Reverb's."""
        return "prioritized" in (self.kind, self.sampler)


class TrainingConfig(Section):
    """The training loop, which alternates between collecting and updating."""

    loop: Literal["auto", "graph", "host"] = "auto"
    """`graph` compiles the environment into the training program, `host` steps it in Python. `auto`
    takes `graph` if the environment has a version in the graph."""
    num_iterations: Count = 20_000
    """Number of iterations."""
    initial_collect_steps: Count = 100
    """Number of environment steps with random actions before the first update."""
    collect_steps_per_iteration: Annotated[Count, Field(le=10_000)] = 1
    """Number of steps that an iteration takes in each of the `env.num_envs` environments before its
    updates."""
    gradient_steps_per_iteration: Annotated[NonNegativeCount, Field(le=10_000)] = 1
    """Number of updates per iteration."""
    batch_size: Annotated[Count, Field(le=1_048_576)] = 64
    """Number of transitions per update."""
    log_interval: Count = 200
    """Number of iterations that are averaged into one point of the training metrics."""
    num_actors: Annotated[NonNegativeCount, Field(le=1_024)] | None = None
    """Number of actor processes, each with `env.num_envs` environments, that collect into Reverb
    while the training process learns (`replay.kind=reverb`). 0 leaves all actors to other hosts.
    Null collects and learns alternately in one process."""
    checkpoint_interval: Count | None = None
    """Number of iterations between checkpoints, from which `dqnkit train --resume` continues. Null
    writes one every ten seconds, or less often if that would take more than one percent of the
    time."""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    """Seed of initial weights, environments, exploration, sampling and evaluation."""


class EvaluationConfig(Section):
    """Greedy episodes in separate environments, played at intervals during training."""

    num_eval_episodes: Annotated[Count, Field(le=100_000)] = 10
    """Number of episodes per evaluation, played as one batch."""
    eval_interval: Count = 1_000
    """Number of iterations between two evaluations."""
    final_episodes: Annotated[Count, Field(le=100_000)] = 100
    """Number of new episodes that the best policy plays after training. They do not influence which
    policy is the best."""
    max_episode_steps: Count = 27_000
    """Number of steps after which an evaluation stops an episode that the environment has not
    ended. The default is half an hour of an Atari game at 15 steps per second (Machado et al.,
    2018)."""
    wrappers: Wrappers | None = None
    """Wrappers for evaluation in place of `env.wrappers`, for training wrappers that change the
    score or the end of an episode. Null means `env.wrappers` without those that change rewards
    (`gymnasium.RewardWrapper`)."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of `gymnasium.make` for evaluation, in addition to `env.kwargs` or in place of
    them."""
    shares_environment: bool = False
    """Play evaluation in the environments of training, which then begin new episodes, for a
    simulator of which only one instance can live. Otherwise evaluation has environments of its
    own, one for each episode of a batch."""


class TrackingConfig(Section):
    """Recording in MLflow. The store itself is not part of a configuration."""

    enabled: bool = True
    """Record the run in MLflow."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Additional tags of the MLflow run."""


class Config(Section):
    """Complete configuration of a run; the run's `config.yaml` holds it and repeats the run."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)] = "dqn"
    """Name of the experiment in MLflow. If a file gives none, the name of the file is used."""
    description: str = ""
    """Description shown with the run in MLflow, in Markdown."""
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
    """Distributions that `dqnkit tune` samples from, by `section.key`. If empty, learning rate,
    layer sizes and batch size are searched."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        self._check_capacity()
        self._check_wrappers()
        self._check_actors()
        self._check_sharing()
        return self

    def _check_capacity(self) -> None:
        capacity, num_envs = self.replay.replay_buffer_max_length, self.env.num_envs
        if capacity < num_envs:
            raise CombinationError(
                f"replay.replay_buffer_max_length={capacity} is smaller than "
                f"env.num_envs={num_envs}: one step of all environments must fit into the replay",
                "replay.replay_buffer_max_length",
                "env.num_envs",
            )
        if capacity < self.agent.n_step * num_envs:
            raise CombinationError(
                f"agent.n_step={self.agent.n_step} does not fit into the replay: "
                f"replay.replay_buffer_max_length={capacity} with env.num_envs={num_envs} holds "
                f"{capacity // num_envs} steps of each environment; set a capacity of at least "
                f"{self.agent.n_step * num_envs}",
                "agent.n_step",
                "replay.replay_buffer_max_length",
                "env.num_envs",
            )
        if capacity < self.training.batch_size:
            raise CombinationError(
                f"replay.replay_buffer_max_length={capacity} is smaller than "
                f"training.batch_size={self.training.batch_size}: a batch must fit into the replay",
                "replay.replay_buffer_max_length",
                "training.batch_size",
            )

    def _check_wrappers(self) -> None:
        if self.env.vectorization != "vector_entry_point":
            return
        for key, wrappers in (
            ("env.wrappers", self.env.wrappers),
            ("evaluation.wrappers", self.evaluation.wrappers),
        ):
            if wrappers or (wrappers is not None and key.startswith("evaluation")):
                given = f"contains {wrappers[0].path}" if wrappers else "is []"
                raise CombinationError(
                    f"{key} {given}, and env.vectorization=vector_entry_point has no single "
                    "environments to wrap: use env.vectorization=sync or async, or arguments of "
                    "the vector class in env.kwargs and evaluation.kwargs",
                    key,
                    "env.vectorization",
                )

    def _check_actors(self) -> None:
        actors, given = self.training.num_actors, self.replay.samples_per_insert
        if actors is not None and self.replay.kind != "reverb":
            raise CombinationError(
                f"training.num_actors={actors} needs replay.kind=reverb, which carries transitions "
                f"from the actors to the learner, and replay.kind is {self.replay.kind}: set it "
                "to reverb, or training.num_actors to null",
                "training.num_actors",
                "replay.kind",
            )
        if actors is not None and not self.training.gradient_steps_per_iteration:
            raise CombinationError(
                f"training.gradient_steps_per_iteration=0 with training.num_actors={actors}: a "
                "learner whose actors run in other processes has only updates to make; set at "
                "least 1",
                "training.gradient_steps_per_iteration",
                "training.num_actors",
            )
        if actors == 0 and self.replay.address is None:
            raise CombinationError(
                "training.num_actors=0 needs replay.address: actors on other hosts must reach the "
                "replay server; start one with `dqnkit replay-server --host 0.0.0.0` and set its "
                "address",
                "training.num_actors",
                "replay.address",
            )
        if actors is None and given is not None and abs(given / self.drawn_per_step - 1) > 1e-6:
            raise CombinationError(
                f"replay.samples_per_insert={given:g}: a process that collects and learns in turn "
                f"samples {self.drawn_per_step:g} transitions per transition added, which follows "
                "from training.batch_size, training.gradient_steps_per_iteration, "
                "training.collect_steps_per_iteration and env.num_envs; set it to null, or "
                "collect in actors (training.num_actors)",
                "replay.samples_per_insert",
                "training.num_actors",
                "training.batch_size",
                "training.gradient_steps_per_iteration",
                "training.collect_steps_per_iteration",
                "env.num_envs",
            )

    def _check_sharing(self) -> None:
        evaluation = self.evaluation
        if not evaluation.shares_environment:
            return
        for key, value in (
            ("evaluation.wrappers", evaluation.wrappers),
            ("evaluation.kwargs", evaluation.kwargs or None),
            ("training.num_actors", self.training.num_actors),
        ):
            if value is not None:
                raise CombinationError(
                    f"{key} is set, and evaluation.shares_environment=true plays evaluation in the "
                    f"environments of training: set one of the two to its default",
                    key,
                    "evaluation.shares_environment",
                )

    @property
    def evaluation_env(self) -> EnvConfig:
        """The environment of evaluation and videos: `env` with what `evaluation` replaces."""
        update: dict[str, Any] = {"kwargs": self.env.kwargs | self.evaluation.kwargs}
        if self.evaluation.wrappers is not None:
            update["wrappers"] = self.evaluation.wrappers
        if self.env.vectorization == "async":
            # It would start one process for each episode of a batch, far more than there are cores.
            update["vectorization"] = "sync"
        return self.env.model_copy(update=update)

    @property
    def steps_per_iteration(self) -> int:
        """Number of environment steps per iteration, over all environments."""
        return self.training.collect_steps_per_iteration * self.env.num_envs

    @property
    def num_env_steps(self) -> int:
        """Number of environment steps of a whole run, including initial collection.

        The host loop takes a few fewer with environments that spend a step on a reset.
        """
        initial = -(-self.training.initial_collect_steps // self.env.num_envs) * self.env.num_envs
        if self.replay.samples_per_insert is not None:
            drawn = self.num_updates * self.training.batch_size
            return initial + round(drawn / self.replay.samples_per_insert)
        return initial + self.training.num_iterations * self.steps_per_iteration

    @property
    def drawn_per_step(self) -> float:
        """Number of transitions that the updates of an iteration sample per environment step."""
        drawn = self.training.gradient_steps_per_iteration * self.training.batch_size
        return drawn / self.steps_per_iteration

    @property
    def num_updates(self) -> int:
        """Number of updates of a whole run."""
        return self.training.num_iterations * self.training.gradient_steps_per_iteration

    @property
    def num_evaluations(self) -> int:
        """Number of evaluations during training, without the one before the first iteration."""
        return -(-self.training.num_iterations // self.evaluation.eval_interval)

    def with_seed(self, seed: int) -> Config:
        """Return a copy with another `training.seed`."""
        return self.model_copy(update={"training": self.training.model_copy(update={"seed": seed})})

    def flat(self) -> dict[str, Any]:
        """Return the values by `section.key`, without `search`, as logged as MLflow parameters."""
        flat: dict[str, Any] = {}
        for section, value in self.model_dump(mode="json", exclude={"search"}).items():
            if isinstance(value, dict):
                flat.update({f"{section}.{key}": entry for key, entry in value.items()})
            else:
                flat[section] = value
        return flat
