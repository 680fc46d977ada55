"""The harness counts environment steps itself, whatever a solver reports."""

from __future__ import annotations

import dataclasses
import importlib
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rmdp_bench import ENVIRONMENTS, heterogeneous_parallel_env, parallel_env
from rmdp_bench.cli import main
from rmdp_bench.envs.core.counting import add_steps, steps_made, uncounted
from rmdp_bench.runs import Interrupted, RunLog, make_request, run
from rmdp_bench.runs.checkpoints import list_checkpoints
from rmdp_bench.runs.display import NoDisplay
from rmdp_bench.runs.records import make_result
from rmdp_bench.solution import Solution
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.tasks import Task, get_online_task, get_task
from tests.helpers.online_settings import SETTINGS, SMALL, SMALL_UNIVERSAL
from tests.helpers.point_world import point_task
from tests.helpers.submission_toys import ROW
from tests.helpers.toys import ScriptedPolicy

TASK = "ResourceGathering-n25-k3-v0"
ENTRY_IDS = [entry.id for entry in ENVIRONMENTS]


def steps_of(play: Any) -> int:
    before = steps_made()
    play()
    return steps_made() - before


@pytest.mark.parametrize("env_id", ENTRY_IDS)
def test_all_forms_are_counted_times_their_copies(env_id: str) -> None:
    env: Any = gym.make(env_id)
    env.reset(seed=0)
    assert steps_of(lambda: env.step(env.action_space.sample())) == 1
    direct = env.unwrapped
    direct.reset(seed=0)  # the first step may have been the last of its episode
    assert steps_of(lambda: direct.step(direct.action_space.sample())) == 1
    entry = next(entry for entry in ENVIRONMENTS if entry.id == env_id)
    forms: list[dict[str, Any]] = [{}] if entry.heterogeneous else [{}, {"agent_rewards": False}]
    for keywords in forms:
        envs: Any = gym.make_vec(env_id, num_envs=5, **keywords)
        assert steps_of(lambda envs=envs: envs.reset(seed=0)) == 0
        assert steps_of(lambda envs=envs: envs.step(envs.action_space.sample())) == 5
    agents: Any = (
        heterogeneous_parallel_env(env_id, agents=[0, 1, 2])
        if entry.heterogeneous
        else parallel_env(env_id, 3)
    )
    agents.reset(seed=0)
    actions = {name: agents.action_space(name).sample() for name in agents.agents}
    assert steps_of(lambda: agents.step(actions)) == 3


def test_copies_that_are_reset_make_no_step() -> None:
    envs: Any = gym.make_vec(get_task(TASK).env_id, num_envs=4, max_episode_steps=1)
    envs.reset(seed=0)
    actions = np.zeros(4, np.int64)
    assert steps_of(lambda: envs.step(actions)) == 4
    assert steps_of(lambda: envs.step(actions)) == 0


def test_worlds_made_within_uncounted_never_count_and_others_always_do() -> None:
    env_id = get_task(TASK).env_id
    outside: Any = gym.make(env_id)
    outside.reset(seed=0)
    with uncounted():
        inside: Any = gym.make(env_id)
        inside.reset(seed=0)
        assert steps_of(lambda: outside.step(0)) == 1
        assert steps_of(lambda: inside.step(0)) == 0
    assert steps_of(lambda: inside.step(0)) == 0


class StepsOther(ScriptedPolicy):
    """Trains, or plans, in worlds of its own while it is evaluated."""

    def __init__(self, env_id: str) -> None:
        super().__init__([1])
        self.env_id = env_id
        self.held: Any = gym.make(env_id)
        self.made: list[Any] = []

    def reset(self, n_envs: int) -> None:
        super().reset(n_envs)
        self.held.reset(seed=0)
        self.made.append(gym.make(self.env_id))
        self.made[-1].reset(seed=0)
        self.held.step(0)
        self.made[-1].step(0)

    def act(self, observations: Any) -> Any:
        return LateActions(self, super().act(observations))


class LateActions:
    """Actions that cost steps when they are looked at."""

    def __init__(self, policy: StepsOther, actions: Any) -> None:
        self.policy, self.actions = policy, actions

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        if len(self.policy.made) == 1:
            self.policy.made.append(gym.make_vec(self.policy.env_id, num_envs=5))
            self.policy.made[-1].reset(seed=0)
            self.policy.made[-1].step(np.zeros(5, np.int64))
        return self.actions


def test_what_policies_step_while_they_are_evaluated_counts() -> None:
    """The evaluator's own worlds do not; those that a policy made there go on counting."""
    task = get_task(TASK)
    k = task.n_representatives
    policy = StepsOther(task.env_id)
    others = [ScriptedPolicy([1]) for _ in range(k - 1)]
    solution = Solution([policy, *others], np.eye(k)[np.arange(task.n_agents) % k])
    log = RunLog(task, [0])
    log.evaluate(10, [solution])
    assert log.steps_counted == 2 + 5
    assert steps_of(lambda: policy.made[0].step(0)) == 1
    assert steps_of(lambda: policy.made[1].step(np.zeros(5, np.int64))) == 5


def test_no_step_of_a_thread_is_lost() -> None:
    def work() -> None:
        for _ in range(20_000):
            add_steps(3)

    def play() -> None:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert steps_of(play) == 8 * 20_000 * 3


def counted(name: str, task: Task, config: Any, seeds: list[int]) -> tuple[float, RunLog]:
    """Steps per policy and seed that were counted, and the log with those that were reported."""
    solver = importlib.import_module(f"baselines.online.{name}")
    log = RunLog(task, seeds)
    solver.solve(task, config, seeds, "cpu", log)
    assert log.steps_counted is not None
    assert any(log.curves)  # whose episodes are not counted
    return log.steps_counted / (task.n_representatives * len(seeds)), log


@pytest.mark.parametrize("name", [*SETTINGS, "oracle"])
def test_the_suites_solvers_report_what_is_counted(name: str) -> None:
    solver = importlib.import_module(f"baselines.online.{name}")
    task = point_task(2_560)
    if name == "oracle":
        task = dataclasses.replace(
            get_online_task("ResourceGathering-n25-k2-v0"), transitions=2_560
        )
    config = solver.Config(**SMALL, **SETTINGS.get(name, {}))
    per_policy, log = counted(name, task, config, [0, 1])
    if name in ("clustering", "affinity_grouping"):  # whose pre-training is in whole batches
        unspent = log.transitions - per_policy
        assert 0 <= unspent < config.pretraining * task.transitions / task.n_representatives
        assert task.transitions - 256 < log.transitions <= task.transitions
        return
    assert log.transitions == task.transitions
    if name == "em_plus":  # which rounds its first stage up to whole iterations
        assert task.transitions - 256 < per_policy <= task.transitions
    else:
        assert per_policy == task.transitions


@pytest.mark.parametrize(
    "task",
    [
        point_task(2_560),
        # Where episodes end early, so that some copies are done before the others.
        dataclasses.replace(get_online_task("ResourceGathering-n25-k2-v0"), transitions=6_000),
    ],
    ids=["point", "grid"],
)
def test_universal_reports_what_is_counted(task: Task) -> None:
    universal = importlib.import_module("baselines.online.universal.solver")
    config = universal.Config(**SMALL_UNIVERSAL)
    per_policy, log = counted("universal", task, config, [0])
    assert log.transitions == -(-per_policy // 1) <= task.transitions


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    em = importlib.import_module("baselines.online.em")
    task, config, seeds = point_task(2_560), em.Config(**SMALL), [0, 1, 2]
    folders = [tmp_path / str(seed) for seed in seeds]
    stop = threading.Event()
    log = RunLog(task, seeds, folders, stop=stop)
    for folder in folders:
        folder.mkdir()
    stop.set()
    with pytest.raises(Interrupted):
        em.solve(task, config, seeds, "cpu", log)
    first = log.steps_counted
    assert first == 3 * task.n_representatives * 256
    resumed = RunLog(task, seeds, folders, resume_at=max(list_checkpoints(folders[0])))
    em.solve(task, config, seeds, "cpu", resumed)
    assert resumed.steps_counted == 3 * task.n_representatives * task.transitions


def test_shares_of_seeds_add_up(tmp_path: Path) -> None:
    """Also if seeds that trained together go on apart."""
    task, seeds = get_task(TASK), [0, 1, 2]
    folders = [tmp_path / str(seed) for seed in seeds]
    log = RunLog(task, seeds, folders)
    add_steps(100)
    log.save_checkpoint(10, {}, [{}] * 3)
    apart = []
    for seed, folder in zip(seeds, folders, strict=True):
        own = RunLog(task, [seed], [folder], resume_at=1)
        own.load_checkpoint()
        apart.append(own.steps_counted)
    assert apart == [33, 33, 34]


VECTOR_STEPS = """
from dataclasses import dataclass
import gymnasium as gym
import numpy as np
from rmdp_bench import Solution
from tests.helpers.toys import ScriptedPolicy, discrete_graph

@dataclass(frozen=True)
class Config:
    n_envs: int = 64
    evaluations: int = 0

def solve(task, config, seeds, device, log):
    '''Counts vector steps, as if one were one transition.'''
    k = task.n_representatives
    envs = gym.make_vec(task.env_id, num_envs=config.n_envs, autoreset_mode="SameStep")
    envs.reset(seed=0)
    for step in range(k * task.transitions // 100):
        envs.step(np.zeros(config.n_envs, np.int64))
    policies = [ScriptedPolicy([1]) for _ in range(k)]
    assignment = np.eye(k)[np.arange(task.n_agents) % k]
    own = Solution(policies, assignment, lambda: discrete_graph([1] * k))
    log.progress(task.transitions // 100, {})
    for _ in range(config.evaluations):
        log.evaluate(task.transitions // 100, [own] * len(seeds))
    return [own] * len(seeds)
"""


class Messages(NoDisplay):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def test_a_solver_that_counts_vector_steps_of_64_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("counts_steps.py").write_text(VECTOR_STEPS)
    display = Messages()
    # So few vector steps that the test is fast; what is compared is the ratio.
    request = make_request("counts_steps.py", TASK, transitions=2_000, settings=["evaluations=2"])
    (result,) = run(request, display=display)
    assert result.transitions_reported == 20
    assert result.transitions_counted == 64 * 20
    assert display.texts == []
    over = make_request(
        "counts_steps.py", TASK, transitions=2_000, out="over", settings=["n_envs=128"]
    )
    (result,) = run(over, display=display)
    assert result.transitions_counted == 128 * 20
    (message,) = display.texts
    assert "2,560 transitions per policy were counted, more than the budget of 2,000" in message
    capsys.readouterr()
    assert main(["score", "over"]) == 0
    assert "2,560" in capsys.readouterr().out  # beside the budget


def test_a_closed_row_over_the_budget_is_refused(
    honest_submission: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rmdp_bench.submission.quick import _check_rules

    result, task = RowFiles(honest_submission / ROW).result(0), get_task(TASK)
    assert result.transitions_counted is not None
    from rmdp_bench.submission.schema import read_submission

    submission = read_submission(honest_submission)
    usual = {"transitions": task.transitions, "transitions_reported": 0}
    n_episodes = task.n_eval_episodes
    evaluation = result.evaluation.model_copy(update={"n_episodes": n_episodes})
    own = result.model_copy(update=usual | {"evaluation": evaluation})
    closed = submission.model_copy(update={"division": "closed"})
    for value in (None, 0, task.transitions):
        _check_rules(closed, task, own.model_copy(update={"transitions_counted": value}))
    more = own.model_copy(update={"transitions_counted": task.transitions + 1})
    with pytest.raises(ValueError, match="transitions_counted is 1000001, over the budget"):
        _check_rules(closed, task, more)
    _check_rules(submission.model_copy(update={"division": "open"}), task, more)


def test_old_records_say_that_it_is_not_known(honest_submission: Path) -> None:
    document = RowFiles(honest_submission / ROW).result(0).model_dump(mode="json")
    del document["transitions_counted"]
    assert make_result(document, "a record").transitions_counted is None
