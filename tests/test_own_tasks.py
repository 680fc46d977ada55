"""Variations of tasks, and tasks from outside."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench
from baselines.online import em
from rmdp_bench import LinearPopulation, OnlineTask, TargetPopulation, get_task
from rmdp_bench.own_tasks import find_task, load_task_file
from tests.helpers.own_world import AGENTS, make, make_line, make_task

CHEETAH = "HalfCheetahVel-n100-v0"
TARGETS = TargetPopulation(np.linspace(0.5, 1.5, 37), width=0.2)


def vary(*arguments: Any, **keywords: Any) -> OnlineTask:
    task = get_task(*arguments, **keywords)
    assert isinstance(task, OnlineTask)
    return task


def test_every_budget_from_one_to_all() -> None:
    ceilings: list[Any] = []
    for k in (1, 2, 3, 4, 5, 6, 100):
        task = vary(CHEETAH, k)
        assert (task.n_representatives, task.n_agents) == (k, 100)
        assert task.is_official == (k in (1, 2, 5))
        assert (task.unranked is None) == task.is_official
        ceilings.append(task.ceiling)
    assert ceilings == sorted(ceilings) and ceilings[-1] == pytest.approx(100.0)
    assert vary(CHEETAH, 5) is get_task("HalfCheetahVel-n100-k5-v0")
    assert vary(f"rmdp/{CHEETAH}", 3) == vary("HalfCheetahVel-n100-k5-v0", 3) == vary(CHEETAH, 3)
    assert vary("ResourceGathering-n25-v0", 4).ceiling is not None


def test_what_is_varied_is_in_the_id() -> None:
    varied = [
        vary(CHEETAH, 3),
        vary(CHEETAH, 4),
        vary(CHEETAH, 3, n_agents=37),
        vary(CHEETAH, 3, population=TARGETS),
        vary(CHEETAH, 3, population=TargetPopulation(TARGETS.targets, width=0.3)),
        vary(CHEETAH, 3, transitions=1000),
        vary(CHEETAH, 3, objective="nash"),
        vary(CHEETAH, 5, objective="nash"),
        vary("HopperVel-n100-v0", 3),
    ]
    ids = [task.id for task in varied]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"\w+-n100-v0-custom-[0-9a-f]{8}", name) for name in ids)
    own = varied[3]
    assert own.n_agents == 37 and own.population is TARGETS
    assert own.env_kwargs == {"population": TARGETS} and own.heldout_population is None
    assert vary(CHEETAH, 3, population=TargetPopulation(TARGETS.targets.copy(), 0.2)).id == own.id
    assert pickle.loads(pickle.dumps(own)).population == TARGETS
    usual = rmdp_bench.get_population(f"rmdp/{CHEETAH}")
    assert vary(CHEETAH, 5, population=usual) is get_task("HalfCheetahVel-n100-k5-v0")
    assert varied[0].heldout_population == rmdp_bench.get_population(f"rmdp/{CHEETAH}", 1)
    assert vary("ResourceGathering-n25-v0", 2).heldout_population is None


def test_agents_of_ones_own_have_their_own_ceiling() -> None:
    best = rmdp_bench.constant_speed_optimum(TARGETS, 3)
    assert vary(CHEETAH, 3, population=TARGETS).ceiling == best.welfare
    line = LinearPopulation(np.ones((4, 1)))
    assert vary(CHEETAH, 3, population=line).ceiling is None
    weights = LinearPopulation(np.random.default_rng(0).dirichlet(np.ones(25), 7))
    assert vary("ResourceGathering-n25-v0", 3, population=weights).ceiling is None


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((CHEETAH,), {}, "'HalfCheetahVel-n100-v0' is an environment, expected a task, or the num"),
        ((CHEETAH, 101), {}, "n_representatives is 101, expected an integer from 1 to 100"),
        ((CHEETAH, 0), {}, "n_representatives is 0, expected"),
        ((CHEETAH, True), {}, "n_representatives is True, expected"),
        ((CHEETAH, 38), {"population": TARGETS}, "is 38, expected an integer from 1 to 37"),
        ((CHEETAH, 3), {"n_agents": 2}, "n_representatives is 3, expected an integer from 1 to 2"),
        ((CHEETAH, 3), {"n_agents": 9, "population": TARGETS}, "population and n_agents=9 are giv"),
        ((CHEETAH, 3), {"n_agents": 10**12}, "n_agents is 1000000000000, expected"),
        ((CHEETAH, 3), {"transitions": 0}, "transitions is 0, expected"),
        ((CHEETAH, 3), {"objective": "fair"}, "objective is 'fair', expected utilitarian"),
        ((CHEETAH, 3), {"population": "mine"}, "population is 'mine', expected a TargetPopulation"),
        (
            (CHEETAH, 3),
            {"population": LinearPopulation(np.eye(2))},
            r"population is for outcomes \(2,\), expected one for outcomes \(1,\)",
        ),
        (("ResourceGathering-n25-v0", 3), {"n_agents": 30}, "has 25 agents and no others"),
        (
            ("CartPoleHet-n500-pure-v1", 3),
            {},
            "pure-v1 is an offline task: its agents.* are fixed",
        ),
        (("HalfCheetahVel-n100-k6-v0", 3), {}, "unknown task .* did you mean"),
    ],
)
def test_other_variations_are_refused(
    arguments: tuple[Any, ...], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        get_task(*arguments, **keywords)


def test_preferences_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match=r"targets\[1\] is nan, expected finite"):
        TargetPopulation(np.array([1.0, np.nan]), width=1.0)


def test_a_world_of_ones_own() -> None:
    task = make_task()
    assert task.id.startswith("line-custom-") and task.env_id == "line"
    assert (task.n_agents, task.n_representatives, task.max_episode_steps) == (6, 2, 12)
    assert task.population == AGENTS and not task.continuous and task.ceiling is None
    assert not task.is_official and task.unranked is not None
    sent = pickle.loads(pickle.dumps(task))
    assert sent == task and sent.make(3).num_envs == 3
    others = [make_task(transitions=4096), make_task(n_representatives=3), make_task(gamma=1.0)]
    assert len({task.id, *(other.id for other in others)}) == 4
    bounded = make_task(ceiling=70.0)
    assert bounded.ceiling == bounded.objective_ceiling == 70.0
    assert find_task(bounded, n_representatives=3).ceiling is None
    assert make_task(ceiling=30.0, objective="egalitarian").ceiling is None
    with pytest.raises(ValueError, match="has agents of its own"):
        find_task(task, n_agents=9)


def make_none(n_envs: int) -> Any:
    return None


def make_two(n_envs: int) -> Any:
    return make(n_envs + 1)


def make_unbounded(n_envs: int) -> Any:
    return make(n_envs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_representatives": 7}, "n_representatives is 7, expected an integer from 1 to 6"),
        ({"max_episode_steps": None}, "max_episode_steps is not given, and the world line says"),
        ({"gamma": 1.5}, "gamma is 1.5, expected"),
        ({"transitions": -1}, "transitions is -1, expected"),
        ({"ceiling": np.nan}, "ceiling is nan, expected"),
        ({"objective": "best"}, "objective is 'best'"),
    ],
)
def test_wrong_worlds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


def test_what_is_no_world() -> None:
    given: dict[str, Any] = {"transitions": 9, "max_episode_steps": 12}
    with pytest.raises(ValueError, match=r"none: make gives None, expected rmdp_bench.represent"):
        rmdp_bench.make_task("none", make_none, 1, **given)
    with pytest.raises(ValueError, match="name is 'a/b', expected letters"):
        rmdp_bench.make_task("a/b", make, 1, **given)
    with pytest.raises(ValueError, match=r"two: make\(3\) gives 4 copies"):
        rmdp_bench.make_task("two", make_two, 1, **given).make(3)
    assert isinstance(make_line(), gym.Env)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_episode_steps": None}, "max_episode_steps is not given"),
        ({"max_episode_steps": -1}, "max_episode_steps is -1, expected"),
        ({"n_representatives": 7}, "n_representatives is 7"),
        ({}, "observations are of Discrete"),
    ],
)
def test_a_world_that_is_refused_is_closed(changes: dict[str, Any], message: str) -> None:
    made = []

    def make_closing(n_envs: int) -> Any:
        made.append(make(n_envs))
        if not changes:
            made[-1].single_observation_space = gym.spaces.Discrete(3)
        return made[-1]

    given: dict[str, Any] = {"n_representatives": 1, "transitions": 9, "max_episode_steps": 12}
    with pytest.raises(ValueError, match=message):
        rmdp_bench.make_task("line", make_closing, **given | changes)
    assert [envs.unwrapped.closed for envs in made] == [True]


def test_a_world_with_too_many_copies_is_closed() -> None:
    made = []

    def make_more(n_envs: int) -> Any:
        made.append(make(n_envs + 1))
        return made[-1]

    task = rmdp_bench.make_task("more", make_more, 1, transitions=9, max_episode_steps=12)
    with pytest.raises(ValueError, match=r"make\(3\) gives 4 copies"):
        task.make(3)
    assert [envs.unwrapped.closed for envs in made] == [True, True]


@pytest.mark.parametrize("made", [None, "make", 3])
def test_what_makes_no_worlds(made: Any) -> None:
    with pytest.raises(ValueError, match=f"make is {made!r}, expected a function"):
        rmdp_bench.make_task("p", made, 1, transitions=9, max_episode_steps=12)


FILE = """
import rmdp_bench
from tests.helpers.own_world import make

def make_task():
    return rmdp_bench.make_task("line", make, 2, transitions=2048, max_episode_steps=12)

def fewer():
    return rmdp_bench.make_task("line", make, 1, transitions=2048, max_episode_steps=12)

def broken():
    raise KeyError("speed")

nothing = None
task = rmdp_bench.get_task("HalfCheetahVel-n100-v0", 3)
"""


def test_tasks_in_files(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    path.write_text(FILE)
    task = find_task(str(path))
    assert isinstance(task, OnlineTask) and task.n_representatives == 2
    assert task.file is not None and task.file.name == "make_task"
    assert task.file.path == str(path) and len(task.file.sha256) == 64
    assert find_task(f"{path}:fewer").n_representatives == 1
    assert find_task(f"{path}:fewer", n_representatives=2).n_representatives == 2
    cheetah = find_task(f"{path}:task")
    assert cheetah.id == vary(CHEETAH, 3).id  # what it is does not depend on the file
    with pytest.raises(ValueError, match=r"broken\(\) fails in line 12: KeyError: 'speed'"):
        find_task(f"{path}:broken")
    with pytest.raises(ValueError, match="nothing gives None, expected a task"):
        find_task(f"{path}:nothing")
    with pytest.raises(ValueError, match="has no absent, expected a function or a task"):
        find_task(f"{path}:absent")
    with pytest.raises(ValueError, match="there is no task file .*other.py"):
        load_task_file(tmp_path / "other.py")
    path.write_text(FILE + "\n# another world, for all we know\n")
    assert find_task(str(path)).id != task.id
    path.write_text("raise RuntimeError('half a file')")
    with pytest.raises(ValueError, match="cannot be imported: RuntimeError: half a file"):
        find_task(str(path))


@dataclasses.dataclass
class Likes(rmdp_bench.Population):
    """A population that is no key of a dictionary, as dataclasses are not."""

    wanted: Any
    wrong: Any = None
    n_agents = 3
    outcome_size = 1

    def rewards(self, outcomes: Any) -> Any:
        if self.wrong is not None:
            return np.full((*outcomes.shape[:-1], self.wrong[0]), self.wrong[1])
        return 0.1 - abs(outcomes - np.asarray(self.wanted))

    def content_hash(self) -> str:
        return f"{self.wanted}"


def test_agents_who_are_no_key_of_a_dictionary() -> None:
    task = get_task(
        "HalfCheetahVel-n100-v0", n_representatives=2, population=Likes([1.0, 2.0, 3.0])
    )
    assert isinstance(task, OnlineTask) and task.ceiling is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((1, 0.0), r"Likes.rewards gives shape \(2, 1\) for 2 outcomes, expected \(2, 3\)"),
        ((3, np.nan), "Likes.rewards gives agent 0 a reward of nan"),
    ],
)
def test_rewards_that_are_none(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_task("HalfCheetahVel-n100-v0", n_representatives=2, population=Likes([1.0], wrong))


def test_a_front_bounds_those_only_who_want_more_of_everything() -> None:
    pytest.importorskip("mo_gymnasium")

    def ceiling(*weights: list[float]) -> float | None:
        agents = LinearPopulation(np.array(weights))
        task = get_task("DeepSeaTreasure-n100-v0", n_representatives=1, population=agents)
        assert isinstance(task, OnlineTask)
        return task.ceiling

    assert ceiling([1.0, 0.0, 0.0]) == pytest.approx(23.7)  # the treasure that is worth most
    assert ceiling([0.0, -1.0, 0.0]) is None  # to whom waiting is worth most
    assert ceiling([1.0, 0.0, -1000.0]) is None  # who would rather not arrive


class Fickle(rmdp_bench.Population):
    """Three agents whose rewards of fast outcomes are what a test says."""

    def __init__(self, kind: str) -> None:
        self.kind, self.n_agents, self.outcome_size = kind, 3, 1

    def rewards(self, outcomes: Any) -> Any:
        shape = (*outcomes.shape[:-1], 3)
        fast = abs(outcomes) > 0
        if self.kind == "nan":
            if isinstance(outcomes, np.ndarray):
                return np.where(fast, np.nan, np.zeros(shape))
            return outcomes.new_zeros(shape).masked_fill(fast, np.nan)
        if self.kind == "arrays":
            return np.zeros(shape) + np.asarray(outcomes)
        return (np.zeros if self.kind == "wide" else np.ones)((*shape[:-1], 4))


def test_own_rewards_are_checked_in_the_suites_worlds() -> None:
    velocity = "rmdp/HalfCheetahVel-n100-v0"
    with pytest.raises(ValueError, match=r"Fickle.rewards gives shape \(2, 4\) for 2 outcomes"):
        gym.make(velocity, population=Fickle("wide"))
    env = gym.make(velocity, population=Fickle("nan"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="Fickle.rewards gives agent 0 a reward of nan"):
        env.step(env.action_space.sample())
    envs = gym.make_vec(velocity, num_envs=2, population=Fickle("nan"))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="Fickle.rewards gives agent 0 a reward of nan"):
        envs.step(envs.action_space.sample())


def test_training_names_the_population_whose_rewards_are_wrong() -> None:
    task = vary("HalfCheetahVel-n100-v0", 2, population=Fickle("nan"))
    task = dataclasses.replace(task, transitions=2048)
    config = em.config_for(task)
    with pytest.raises(ValueError, match="Fickle.rewards gives agent . a reward of nan"):
        em.solve(task, config, [0], "cpu", rmdp_bench.RunLog(task, [0]))
    arrays = rmdp_bench.get_task("HalfCheetahVel-n100-v0", 2, population=Fickle("arrays"))
    with pytest.raises(ValueError, match="asked with torch tensors by this solver, and gives "):
        em.check(arrays, config)


def test_agents_of_ones_own_are_not_drawn_anew() -> None:
    """Another number would be of the world's own agents."""
    own = vary(CHEETAH, 2, population=TARGETS)
    for n_agents in (37, 50):
        with pytest.raises(
            ValueError, match=f"37 agents of its own, and n_agents={n_agents} would"
        ):
            find_task(own, n_agents=n_agents)
    assert find_task(own, n_representatives=3).n_agents == 37


def test_a_task_file_that_fails_says_where(tmp_path: Path) -> None:
    path = tmp_path / "fails.py"
    path.write_text("import os\n\ndef make_task():\n    return os.environ['NO SUCH NAME']\n")
    with pytest.raises(
        ValueError, match=r"make_task\(\) fails in line 4: KeyError: 'NO SUCH NAME'"
    ):
        load_task_file(path)
