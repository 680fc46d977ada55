"""The datasets: one table, from which the command line, documents and tests are derived.

To add one: write its row, record it with `scripts/record_datasets.py`, and put the files of its
policies, if it has any, into `rmdp_bench/data`. A change of a dataset's content is a new version.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rmdp_bench.datasets.behaviour import load_behaviour_policies, load_velocity_policies
from rmdp_bench.datasets.clinic import load_clinic_controllers
from rmdp_bench.envs import EnvironmentEntry, get_environment
from rmdp_bench.solution import Policy


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset: how it is collected.

    Episode e starts from `reset(seed=seed + e)`. Where agents differ in dynamics, it is agent e's.
    The policy that acts in it is drawn for the episode, and each of its actions is replaced by a
    uniform one with probability `epsilon`. Nothing is drawn from anything but the entry's seed and
    the number of the episode.

    Attributes:
        id: Minari's id, opaque and versioned.
        env_id: Gymnasium's id of the environment.
        description: one sentence: who acts.
        seed: of the first episode; below 2**31, where evaluation seeds begin.
        n_episodes: number of episodes; None: as many as `n_steps` needs.
        n_steps: number of transitions, for which the last episode is cut; None: all of the
            `n_episodes`.
        load_policies: gives the policies that act; they are deterministic and have no memory.
            None: all actions are uniform, whatever epsilon.
        epsilon: share of uniform actions.
        own_policies: whether policy i acts for agent i, of all agents of the environment's
            `population.parameters`, in the place of one that is drawn.
        env_kwargs: keywords of `gym.make` and `gym.make_vec` for the world of the data;
            "max_episode_steps" among them.
        licence: SPDX identifier.
        shipped: whether the package has its episodes, for `load_dataset` to install.
        ends_twice: whether an episode that terminates in the step in which its time is up is marked
            as truncated too, as the first data sets are. Libraries such as d3rlpy refuse that;
            without it, it is terminated only.

    Raises:
        ValueError: not exactly one of `n_episodes` and `n_steps` is given, or a value is out of
            range.
    """

    id: str
    env_id: str
    description: str
    seed: int
    n_episodes: int | None = None
    n_steps: int | None = None
    load_policies: Callable[[], Sequence[Policy]] | None = None
    epsilon: float = 1.0
    own_policies: bool = False
    env_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    licence: str = "MIT"
    shipped: bool = False
    ends_twice: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        sizes = [size for size in (self.n_episodes, self.n_steps) if size is not None]
        if len(sizes) != 1 or sizes[0] < 1:
            raise ValueError(
                f"{self.id}: n_episodes is {self.n_episodes} and n_steps {self.n_steps}, expected "
                "one of them, at least 1"
            )
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"{self.id}: epsilon is {self.epsilon}, expected 0 to 1")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"{self.id}: seed is {self.seed}, expected 0 to 2**31 - 1")

    @property
    def environment(self) -> EnvironmentEntry:
        """The row of its environment."""
        return get_environment(self.env_id)

    @property
    def max_episode_steps(self) -> int:
        """Steps after which an episode of it is truncated."""
        usual = self.environment.max_episode_steps
        return int(self.env_kwargs.get("max_episode_steps", usual))


def _heterogeneous(name: str, env_id: str, seed: int) -> Iterator[DatasetEntry]:
    """The datasets of one environment; one episode of each agent (PerSim's four kinds).

    Their version is the environment's.
    """
    n_agents, version = get_environment(env_id).n_agents, env_id.rpartition("-")[2]
    yield DatasetEntry(
        id=f"rmdp/{name}/random-{version}",
        env_id=env_id,
        description="All actions are uniform.",
        seed=seed,
        n_episodes=n_agents,
        ends_twice=version == "v0",
    )
    acts = "In each episode one of the behaviour policies acts, drawn for it"
    mixed = "of its actions are replaced by uniform ones"
    kinds = (
        ("pure", 0.0, f"{acts}."),
        ("pure-eps20", 0.2, f"{acts}; 20 % {mixed}."),
        ("pure-eps40", 0.4, f"{acts}; 40 % {mixed}."),
    )
    for number, (kind, epsilon, description) in enumerate(kinds, start=1):
        yield DatasetEntry(
            id=f"rmdp/{name}/{kind}-{version}",
            env_id=env_id,
            description=description,
            seed=seed + number * 1_000_000,
            n_episodes=n_agents,
            load_policies=partial(load_behaviour_policies, env_id),
            epsilon=epsilon,
            shipped=(name, kind) == ("cartpole-het", "pure"),
            ends_twice=version == "v0",
        )


def _velocity(name: str, env_id: str, seed: int) -> Iterator[DatasetEntry]:
    """The datasets of one robot."""
    yield DatasetEntry(
        id=f"rmdp/{name}-vel-n100/random-v0",
        env_id=env_id,
        description="All actions are uniform.",
        seed=seed,
        n_steps=100_000,
        ends_twice=True,
    )
    solutions = {"medium": "a solution from early training", "expert": "a good solution"}
    for number, (quality, solution) in enumerate(solutions.items(), start=1):
        yield DatasetEntry(
            id=f"rmdp/{name}-vel-n100/{quality}-v0",
            env_id=env_id,
            description=f"In each episode one policy of {solution} acts, drawn for it.",
            seed=seed + number * 1_000_000,
            n_steps=100_000,
            load_policies=partial(load_velocity_policies, env_id, quality),
            epsilon=0.0,
            ends_twice=True,
        )


CLINIC_DAYS, CLINIC_MISSED = 30, 0.1
"""Of each patient's record, and the share of meals that patients forget to announce."""
_CLINIC = DatasetEntry(
    id="rmdp/glucose-het/clinic-v0",
    env_id="rmdp/Glucose-n100-v0",
    description=(
        f"One record of {CLINIC_DAYS} days of each patient, in one episode, under their own "
        "imperfect controller of basal rate and boluses (rmdp_bench.datasets.clinic). Meals are "
        f"as patients report them, with an error, and {CLINIC_MISSED:.0%} not at all."
    ),
    seed=90_000_000,
    n_episodes=100,
    load_policies=load_clinic_controllers,
    epsilon=0.0,
    own_policies=True,
    env_kwargs={
        "days": CLINIC_DAYS,
        "missed": CLINIC_MISSED,
        "max_episode_steps": CLINIC_DAYS * 288,
    },
)

DATASETS: tuple[DatasetEntry, ...] = (
    *_heterogeneous("cartpole-het", "rmdp/CartPoleHet-n500-v0", 10_000_000),
    *_heterogeneous("mountaincar-het", "rmdp/MountainCarHet-n500-v0", 20_000_000),
    *_heterogeneous("halfcheetah-het", "rmdp/HalfCheetahHet-n500-v0", 30_000_000),
    *_heterogeneous("halfcheetah-het", "rmdp/HalfCheetahHet-n500-v1", 80_000_000),
    *_velocity("halfcheetah", "rmdp/HalfCheetahVel-n100-v0", 40_000_000),
    *_velocity("ant", "rmdp/AntVel-n100-v0", 50_000_000),
    *_velocity("hopper", "rmdp/HopperVel-n100-v0", 60_000_000),
    *_velocity("walker2d", "rmdp/Walker2dVel-n100-v0", 70_000_000),
    _CLINIC,
)


def get_dataset(dataset_id: str) -> DatasetEntry:
    """Give the row of an id.

    Raises:
        ValueError: no such id; names the closest ones.
    """
    for entry in DATASETS:
        if entry.id == dataset_id:
            return entry
    ids = [entry.id for entry in DATASETS]
    close = difflib.get_close_matches(str(dataset_id), ids)
    hint = f"did you mean {', '.join(close)}?" if close else "see `rmdp-bench list datasets`"
    raise ValueError(f"there is no dataset {dataset_id!r}; {hint}")
