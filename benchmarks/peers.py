"""Speed beside other libraries: the same work in one run, ours and theirs in turn.

    Gymnasium           its own classic worlds and HalfCheetah, made as ours are: gym.make, make_vec
    EnvPool             its vector environments, with --envpool-python
    Stable-Baselines3   iterations of its PPO on HalfCheetah-v5 in 8 environments, defaults
    code of the paper   iterations of its EM, with --paper-code
    d3rlpy              updates of its discrete BCQ and CQL on the same data with the same networks
                        and mini-batches, one seed on one thread, both with denormal numbers as
                        zeros, with --d3rlpy-python; it copies its target network every 200 updates,
                        ours follows at each

Every repetition does the work of both for some time, one after the other, so that they share what
else the machine does. Numbers are medians over repetitions, in transitions per second, ends and
resets of episodes included, of updates those of their mini-batches; the ratio is the median of the
ratios within a repetition. Worlds are not the same to the letter: ours have agents with parameters,
or give the rewards of 100 agents. Seconds are those of the clock; beside Gymnasium, where both run
on one thread of this process, those of the processor, which no other process makes longer.

EnvPool, d3rlpy and the code of the paper need environments of their own; that code is fetched by
whoever compares with it, under its author's license, and runs as it is:

    python -m scripts.make_peers                      # prints the three Pythons
    git clone https://github.com/dimonenka/RL_policy_budget PAPER
    git -C PAPER checkout b0dac5e
    python -m benchmarks.peers --envpool-python ENVPOOL --d3rlpy-python D3 \
        --paper-code PAPER --paper-python PAPERS

    python -m benchmarks.peers [--quick] [--only PEER ...] [--envpool-python PYTHON] [--out DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from baselines.common.threads import denormals_as_zeros, one_thread
from baselines.offline.common.data import load_data
from baselines.online.em import EMRule, config_for
from baselines.online.ppo.learner import PPOLearner
from benchmarks import offline_learners
from benchmarks.common import make_parser, positive, report
from rmdp_bench.cores import usable_cores
from rmdp_bench.tasks import get_online_task
from scripts import compare_with_d3rlpy

HEADER = ("work", "ours", "copies", "ours, per second", "peer", "theirs, per second", "ratio")
HERE = Path(__file__).parent
N_COPIES = 4096
ITERATION_OF_THEIRS = 2048
"""Transitions of each environment in an iteration of Stable-Baselines3's PPO and the paper's EM."""

Run = Callable[[int], float]
"""From a number of steps to the seconds that they took."""


@dataclass(frozen=True)
class Pair:
    """What is compared.

    Attributes:
        work: "steps", "training" online, or "updates" offline.
        env_id: our environment; of training and updates, the task.
        peer: who we are compared with.
        theirs: their environment; of updates, the solver.
        n_envs: copies that step; 0: the single form. Of training, theirs: ours has its own.
    """

    work: str
    env_id: str
    peer: str
    theirs: str
    n_envs: int


CART, CAR = "rmdp/CartPoleHet-n500-v0", "rmdp/MountainCarHet-n500-v0"
CHEETAH, TASK = "rmdp/HalfCheetahVel-n100-v0", "HalfCheetahVel-n100-k{}-v0"
PAIRS = (
    Pair("steps", CART, "gymnasium", "CartPole-v1", 0),
    Pair("steps", CAR, "gymnasium", "MountainCar-v0", 0),
    Pair("steps", CHEETAH, "gymnasium", "HalfCheetah-v5", 0),
    Pair("steps", CART, "gymnasium", "CartPole-v1", N_COPIES),
    Pair("steps", CAR, "gymnasium", "MountainCar-v0", N_COPIES),
    Pair("steps", CART, "envpool", "CartPole-v1", N_COPIES),
    Pair("steps", CAR, "envpool", "MountainCar-v0", N_COPIES),
    *(Pair("steps", CHEETAH, "envpool", "HalfCheetah-v4", n) for n in (8, 64, 256)),
    *(Pair("training", TASK.format(k), "stable_baselines3", "HalfCheetah-v5", 8) for k in (1, 5)),
    Pair("training", TASK.format(5), "paper", "HalfCheetah-v4", 5),
    *(Pair("updates", offline_learners.TASK.id, "d3rlpy", name, 0) for name in ("bcq", "cql")),
)


@contextmanager
def run_world(env_id: str, n_envs: int, clock: Callable[[], float]) -> Iterator[Run]:
    """Steps of a vector form, or, for 0 copies, of a single form; random actions, and resets."""
    is_single = n_envs == 0
    env: Any = gym.make(env_id) if is_single else gym.make_vec(env_id, num_envs=n_envs)
    env.reset(seed=0)
    env.action_space.seed(0)

    def run(n_steps: int) -> float:
        actions = [env.action_space.sample() for _ in range(n_steps)]
        start = clock()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if is_single and (terminated or truncated):
                env.reset()
        return clock() - start

    with closing(env):
        yield run


@contextmanager
def run_training(task_id: str) -> Iterator[tuple[Run, int]]:
    """Iterations of EM, acting, E-step and update, and the transitions of one."""
    task = get_online_task(task_id)
    config = config_for(task)
    learner, rule = PPOLearner(task, config, [0], "cpu"), EMRule(task, config, [0], "cpu")

    def run(n_iterations: int) -> float:
        start = time.perf_counter()
        for _ in range(n_iterations):
            batch = learner.collect()
            rule.after_collection(learner.collector.average_returns)
            learner.update(batch, rule)
        return time.perf_counter() - start

    with closing(learner):
        yield run, task.n_representatives * config.batch_size


@contextmanager
def run_updates(name: str) -> Iterator[Run]:
    """Updates of an offline solver, of one seed, as it trains."""
    learner = offline_learners.LEARNERS[name].make(offline_learners.UPDATES)

    @one_thread()
    @denormals_as_zeros()
    def run(n_updates: int) -> float:
        start = time.perf_counter()
        for _ in range(n_updates):
            learner.advance()
        return time.perf_counter() - start

    yield run


@contextmanager
def run_d3rlpy(python: str, name: str) -> Iterator[Run]:
    """Updates of d3rlpy's learner with the same settings and data."""
    task, config = offline_learners.TASK, offline_learners.LEARNERS[name].config
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "data.npz", Path(folder) / "settings.json"
        compare_with_d3rlpy.write_data(load_data(task, config.n_agents), files[0])
        compare_with_d3rlpy.write_settings(task, config, name, offline_learners.SEEDS, files[1])
        with run_worker(python, compare_with_d3rlpy.WORKER, *files) as run:
            yield run


@contextmanager
def run_stable_baselines(env_id: str, n_envs: int) -> Iterator[Run]:
    """Iterations of its PPO, of ITERATION_OF_THEIRS steps in each environment."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env(env_id, n_envs)
    model = PPO("MlpPolicy", envs, device="cpu", seed=0)

    def run(n_iterations: int) -> float:
        start = time.perf_counter()
        model.learn(n_iterations * n_envs * model.n_steps, reset_num_timesteps=False)
        return time.perf_counter() - start

    with closing(envs):
        yield run


@contextmanager
def run_worker(*words: Any) -> Iterator[Run]:
    """Ask a program of another environment, which says so once it is ready."""
    command = [str(word) for word in words]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        answers, questions = worker.stdout, worker.stdin

        def answer() -> str:
            line: str = answers.readline()
            if not line:
                raise RuntimeError(f"{' '.join(command)} ended with {worker.wait()}")
            return line

        def run(n_steps: int) -> float:
            print(n_steps, file=questions, flush=True)
            return float(answer())

        answer()
        yield run
        questions.close()


@contextmanager
def start(pair: Pair, arguments: argparse.Namespace) -> Iterator[tuple[Run, Run, int, int]]:
    """What runs our work and theirs, and the transitions of a step of each."""
    with ExitStack() as stack:
        size = max(1, pair.n_envs)
        sizes = size, size
        if pair.work == "training":
            ours, transitions = stack.enter_context(run_training(pair.env_id))
            sizes = transitions, size * ITERATION_OF_THEIRS
        elif pair.work == "updates":
            ours = stack.enter_context(run_updates(pair.theirs))
            batch_size = offline_learners.LEARNERS[pair.theirs].config.batch_size
            sizes = batch_size, batch_size
        else:
            clock = time.process_time if pair.peer == "gymnasium" else time.perf_counter
            ours = stack.enter_context(run_world(pair.env_id, pair.n_envs, clock))
        if pair.peer == "gymnasium":
            theirs = stack.enter_context(run_world(pair.theirs, pair.n_envs, clock))
        elif pair.peer == "stable_baselines3":
            theirs = stack.enter_context(run_stable_baselines(pair.theirs, size))
        elif pair.peer == "envpool":
            threads = min(usable_cores(), size)
            worker = HERE / "envpool_worker.py"
            command = run_worker(arguments.envpool_python, worker, pair.theirs, size, threads)
            theirs = stack.enter_context(command)
        elif pair.peer == "d3rlpy":
            theirs = stack.enter_context(run_d3rlpy(arguments.d3rlpy_python, pair.theirs))
        else:
            worker = HERE / "paper_worker.py"
            command = run_worker(arguments.paper_python, worker, arguments.paper_code, pair.theirs)
            theirs = stack.enter_context(command)
        yield ours, theirs, *sizes


def count_steps(run: Run, seconds: float) -> int:
    """How many steps take so long, or one, if it takes longer."""
    n_steps, taken = 1, run(1)
    while taken < seconds / 2:
        n_steps *= 2
        taken = run(n_steps)
    return max(1, round(n_steps * seconds / taken))


def measure(pair: Pair, arguments: argparse.Namespace) -> dict[str, Any]:
    """Transitions per second of both, and the median of their ratios."""
    speeds: list[tuple[float, float]] = []
    with start(pair, arguments) as (*runs, our_size, their_size):
        sizes = our_size, their_size
        steps = [count_steps(run, arguments.seconds) for run in runs]  # which warms up, too
        for _ in range(arguments.repetitions):
            own, other = (
                n_steps * size / run(n_steps)
                for run, n_steps, size in zip(runs, steps, sizes, strict=True)
            )
            speeds.append((own, other))
    ours_and_theirs = np.array(speeds)
    own, other = np.median(ours_and_theirs, axis=0).tolist()
    ratio = float(np.median(ours_and_theirs[:, 0] / ours_and_theirs[:, 1]))
    return dataclasses.asdict(pair) | {"ours_speed": own, "theirs_speed": other, "ratio": ratio}


def format_row(result: dict[str, Any]) -> list[str]:
    """One line of the table."""
    of_one = "one seed" if result["work"] == "updates" else "single form"
    return [
        *(result["work"], result["env_id"], str(result["n_envs"] or of_one)),
        f"{result['ours_speed']:,.0f}",
        *(f"{result['peer']} {result['theirs']}", f"{result['theirs_speed']:,.0f}"),
        f"{result['ratio']:.2f}",
    ]


def measure_all(arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each result and its row, of the peers that are there."""
    absent = set()
    if arguments.envpool_python is None:
        absent.add("envpool")
    if arguments.d3rlpy_python is None:
        absent.add("d3rlpy")
    if arguments.paper_code is None:
        absent.add("paper")
    for pair in PAIRS:
        if pair.peer not in absent and (arguments.only is None or pair.peer in arguments.only):
            result = measure(pair, arguments)
            yield result, format_row(result)


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("Speed beside other libraries.", "1 repetition of 0.01 s")
    parser.add_argument("--only", nargs="+", choices=sorted({pair.peer for pair in PAIRS}))
    parser.add_argument("--envpool-python", help="of an environment with EnvPool")
    parser.add_argument("--d3rlpy-python", help="of an environment with d3rlpy")
    parser.add_argument("--paper-code", help="folder of the paper's code")
    parser.add_argument("--paper-python", help="of an environment with what that code needs")
    parser.add_argument("--repetitions", type=positive, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each repetition of either")
    arguments = parser.parse_args()
    if (arguments.paper_code is None) != (arguments.paper_python is None):
        parser.error("--paper-code and --paper-python go together")
    if arguments.quick:
        arguments.repetitions, arguments.seconds = 1, 0.01
    report("peers", arguments.out, HEADER, measure_all(arguments))


if __name__ == "__main__":
    main()
