"""EM with the outcome critic, from a hundred agents to a million.

    outcome    `--set critic=outcome`: about 100 nodes stand for the agents
    agents     the paper's critic, an output for each agent: the named alternative, as far as its
               batches fit into `--memory` GiB

All rows live at the same time, each in a process of its own, and make their iterations in turn, so
that they share what else the machine does. Seconds are means over iterations, since in some of them
no episode ends and the E-step finds nothing new; "of the least" is the ratio to the row of the
same critic with the fewest agents, "of agents" to that of the agents' critic with the same number.
Then each row goes on training, to `--transitions` per policy, and is scored by the episodes of a
learning curve, of which the mean over `--seeds` and its standard error are shown:

    training    welfare by the moving averages of training returns
    welfare     of its own agents, as assigned, beside the exact ceiling of that population
    of a million  of a million agents, the first of whom are its own, each with the best of the
                same policies: what can be compared between rows
    error       by how much returns that follow from the nodes differ from the agents' own: root
                of the mean square over agents, policies and episodes of the first seed, and the
                greatest, in percent of a perfect episode

Seeds differ by several percent in welfare, early in training most of all: a comparison of rows
needs several of them. A row whose critic has no nodes has no error, and one with many agents and
their own critic is not trained on (`--train-agents`), but timed. Memory is the peak of the process
up to the scores.

    python -m benchmarks.agents [--quick] [--task ID] [--agents N ...] [--out DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal, get_args

import numpy as np

from baselines.online.em import EMRule, config_for
from baselines.online.ppo.learner import PPOLearner
from benchmarks.common import make_parser, positive, report
from rmdp_bench.evaluation import evaluate, roll_out
from rmdp_bench.runs.curve import CURVE_EPISODES, CURVE_SEED
from rmdp_bench.scoring import agent_returns, social_welfare, standard_error
from rmdp_bench.system import peak_memory_mib
from rmdp_bench.tasks import get_online_task

MANY = 1_000_000
Critic = Literal["outcome", "agents"]
PHASES = ("collection", "E-step", "update")
HEADER = (
    *("agents", "critic", "collection s", "E-step s", "update s", "iteration s", "of the least"),
    *("of agents", "memory GiB", "training", "welfare", "ceiling", "of a million"),
    *("error rms", "error max"),
)

SCORES = ("training", "welfare", "ceiling", "of a million", "error_rms", "error_max")

_worker: dict[str, Any] = {}
"""PPOLearner and rule of this process."""


def start(task_id: str, n_agents: int, critic: Critic, transitions: int, n_seeds: int) -> None:
    """Make the learner, and one iteration for everything that happens once."""
    task = get_online_task(task_id)
    if n_agents != task.n_agents:
        task = task.with_agents(n_agents)
    task = dataclasses.replace(task, transitions=transitions)
    config = dataclasses.replace(config_for(task), critic=critic)
    seeds = range(n_seeds)
    learner = PPOLearner(task, config, seeds, "cpu")
    _worker.update(task=task, learner=learner, rule=EMRule(task, config, seeds, "cpu"))
    iterate()


def iterate() -> list[float]:
    """Seconds of each phase of an iteration, as `learner.train` makes it."""
    learner, rule = _worker["learner"], _worker["rule"]
    times = [time.perf_counter()]
    batch = learner.collect()
    times.append(time.perf_counter())
    rule.after_collection(learner.collector.average_returns)
    learner.train_social_welfare(rule.served)
    times.append(time.perf_counter())
    learner.update(batch, rule)
    times.append(time.perf_counter())
    return np.diff(times).tolist()


def finish(is_trained: bool) -> dict[str, Any]:
    """Train to the end and score; without training only the memory."""
    task, learner, rule = _worker["task"], _worker["learner"], _worker["rule"]
    scores: dict[str, Any] = {}
    if is_trained:
        while learner.transitions + learner.config.batch_size <= task.transitions:
            iterate()
        solutions = learner.solutions(rule.served)
        how: dict[str, Any] = {"n_episodes": CURVE_EPISODES, "seed": CURVE_SEED}
        scores["training"] = learner.train_social_welfare(rule.served)
        scores["welfare"] = []
        for solution in solutions:
            matrix = evaluate(task, solution, **how).welfare_matrix
            welfare = social_welfare(agent_returns(matrix, solution.assignment))
            scores["welfare"].append(welfare)
        scores["ceiling"] = task.ceiling
        if learner.collector.nodes.weights is not None:
            scores |= node_errors(**how)
        peak = peak_memory_mib()
        many = task if task.n_agents == MANY else task.with_agents(MANY)
        scores["of a million"] = [
            float(roll_out(many, own.policies, **how).returns.mean(axis=2).max(axis=1).mean())
            for own in solutions
        ]
    else:
        peak = peak_memory_mib()
    learner.close()
    return scores | {"peak_memory_mib": peak, "transitions": learner.transitions}


def node_errors(**how: Any) -> dict[str, float]:
    """How far returns by the nodes are from the agents' own, on the same episodes."""
    task, learner, rule = _worker["task"], _worker["learner"], _worker["rule"]
    nodes = learner.collector.nodes
    solution = learner.solutions(rule.served)[0]
    rollout = roll_out(task, solution.policies, record=True, **how)
    assert rollout.outcomes is not None
    rewards = nodes.population.rewards(rollout.outcomes)  # (T, P, E, B)
    running = np.arange(len(rewards))[:, None, None] < rollout.lengths
    by_node = np.einsum("tpeb,tpe->bpe", rewards, running)
    by_agent = nodes.of_agents(by_node.reshape(nodes.size, -1))
    errors = by_agent - rollout.returns.reshape(task.n_agents, -1)
    return {
        "error_rms": float(np.sqrt(np.einsum("ij,ij->", errors, errors) / errors.size)),
        "error_max": float(max(errors.max(), -errors.min())),
    }


def memory_needed(task_id: str, n_agents: int) -> float:
    """GiB of a batch of the agents' critic, of its targets, and of its networks and Adam's."""
    task = get_online_task(task_id)
    config = config_for(task)
    of_batch = config.batch_size * n_agents
    of_networks = (config.hidden_size + 1) * n_agents * 5  # with gradient, moments and a copy
    return 4 * task.n_representatives * (of_batch + of_networks) / 2**30


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One result for each row."""
    results, pools = [], []
    spawn = multiprocessing.get_context("spawn")
    for n_agents in sorted(arguments.agents):
        for critic in get_args(Critic):
            result: dict[str, Any] = {"n_agents": n_agents, "critic": critic, "seconds": []}
            results.append(result)
            needed = memory_needed(arguments.task, n_agents) * arguments.seeds
            if critic == "agents" and needed > arguments.memory:
                result["needed_gib"] = needed
                continue
            pool = ProcessPoolExecutor(1, mp_context=spawn)
            setting = (arguments.task, n_agents, critic, arguments.transitions, arguments.seeds)
            pool.submit(start, *setting).result()
            pools.append((pool, result))
    for _ in range(arguments.repetitions):
        for pool, result in pools:
            result["seconds"].append(pool.submit(iterate).result())
    for pool, result in pools:
        is_trained = result["critic"] == "outcome" or result["n_agents"] <= arguments.train_agents
        result |= pool.submit(finish, is_trained).result()
        pool.shutdown()
    return results


def format_rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """The table."""
    totals = {
        (row["n_agents"], row["critic"]): float(np.sum(row["seconds"], axis=1).mean())
        for row in results
        if row["seconds"]
    }
    rows = []
    for result in results:
        n_agents, critic = result["n_agents"], result["critic"]
        cells = [f"{n_agents:,}", critic]
        if not result["seconds"]:
            needed = f"does not fit: {result['needed_gib']:,.1f}"
            rows.append([*cells, *["-"] * 6, needed, *["-"] * 6])
            continue
        total = totals[n_agents, critic]
        least = min(n for n, own in totals if own == critic)
        alternative = totals.get((n_agents, "agents"))
        rows.append(
            [
                *cells,
                *(f"{value:.3f}" for value in np.mean(result["seconds"], axis=0)),
                f"{total:.3f}",
                f"{total / totals[least, critic]:.2f} x",
                f"{total / alternative:.2f} x" if alternative else "-",
                f"{result['peak_memory_mib'] / 1024:.2f}",
                *(format_scores(result.get(name)) for name in SCORES),
            ]
        )
    return rows


def format_scores(values: list[float] | float | None) -> str:
    """One number, or the mean over seeds with its standard error."""
    if values is None:
        return "-"
    if not isinstance(values, list):
        return f"{values:.3f}"
    error = f" ± {standard_error(values):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{error}"


def main() -> None:
    """Measure what is asked for."""
    parser = make_parser("EM with any number of agents.", "two small rows and two iterations")
    parser.add_argument("--task", default="HalfCheetahVel-n100-k5-v0", help="velocity task")
    parser.add_argument(
        "--agents", nargs="+", type=positive, default=[100, 1_000, 10_000, 1_000_000]
    )
    parser.add_argument("--repetitions", type=positive, default=12, help="timed iterations")
    parser.add_argument("--transitions", type=int, default=200_000, help="of training, per policy")
    parser.add_argument("--seeds", type=positive, default=1, help="how many, trained as one batch")
    parser.add_argument("--memory", type=float, default=3.0, help="GiB for the agents' critic")
    parser.add_argument("--train-agents", type=int, default=100, help="most with their own critic")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.agents, arguments.repetitions = [100, 20_000], 1
        arguments.transitions, arguments.memory = 2 * 2048, 0.2
    results = measure(arguments)
    report("agents", arguments.out, HEADER, zip(results, format_rows(results), strict=True))


if __name__ == "__main__":
    main()
