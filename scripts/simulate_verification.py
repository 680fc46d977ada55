"""How often `verify --full` accepts honest rows, raised claims and cheats.

    python -m scripts.simulate_verification --out benchmarks/results/verification.md

Honest rows of every kind on the board: the stored policies are played on the known episodes, on
these again with nudged observations, and on a pool of other ones.  Each trial then draws, with
replacement, the known and the held-out episodes of a verification from the pool, all seeds of a row
the same, and lets the rules of `rmdp_bench.submission` decide.  Recipes have no policies to play:
their pool is what their records hold of single episodes.  Every solver on the board is there in
every kind of environment it was run in.  Pools of robots are small, 10 to 60 episodes and the 20
known ones, because physics takes its time; a trial that asks for more draws some of them again, so
that what happens once in a thousand episodes is not in them.

    same machine     the replay gives the claims
    other machine    where nudging changes most episodes, the claims are those of other episodes, as
                     if rounding had left nothing in common; elsewhere each episode changes as often
                     and as far as nudging changes it

Cheats are simulated as what a policy reaches on known and on held-out episodes.  Policies that act
by the batch are played as they are, in `tests/submission/test_replay.py`.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmdp_bench.cores import usable_cores
from rmdp_bench.evaluation.offline import normalise
from rmdp_bench.files import write_text
from rmdp_bench.solution.storage import parse_solution
from rmdp_bench.submission.comparison import (
    N_NUDGES,
    Comparison,
    FloatArray,
    compare,
    is_exact,
)
from rmdp_bench.submission.held_out import FIRST_EPISODES, MAX_EPISODES, play_in_rounds
from rmdp_bench.submission.marks import FIRST_HELD_OUT_SEED
from rmdp_bench.submission.recipes import MAX_EPISODES as MAX_RECIPE_EPISODES
from rmdp_bench.submission.replay import play_shuffled
from rmdp_bench.submission.rows import RowFiles
from rmdp_bench.system import cpu_model
from rmdp_bench.tasks import get_offline_task, get_task

SUBMISSIONS = Path(__file__).resolve().parent.parent / "leaderboards" / "submissions"
KNOWN_SEED = 2**31
RAISED = (0.5, 1.0, 2.0, 3.0)
CHAOTIC = 0.5
"""Share of episodes that nudging changes, above which other machines play other episodes."""
Trial = Callable[[np.random.Generator], Comparison]


@dataclass(frozen=True)
class Pool:
    """Episodes of a row: welfare of each, for S seeds.

    Attributes:
        name: what the table calls it.
        known: (S, E).
        nudged: (S, E) the same, nudged.
        others: (S, N).
        limit: of held-out episodes.
    """

    name: str
    known: FloatArray
    nudged: FloatArray
    others: FloatArray
    limit: int = MAX_EPISODES

    @property
    def is_chaotic(self) -> bool:
        """Whether rounding changes most episodes."""
        return bool((np.abs(self.nudged - self.known) > 1e-6).mean() > CHAOTIC)


def play_pool(submission: str, task_id: str, solver: str, n_others: int, n_seeds: int) -> Pool:
    """Play a row's stored policies."""
    task, row = get_task(task_id), RowFiles(SUBMISSIONS / submission / task_id / solver)
    groups = {
        "known": (KNOWN_SEED, 20),
        "nudged": (KNOWN_SEED, 20),
        "others": (FIRST_HELD_OUT_SEED, n_others),
    }
    played = [
        play_shuffled(
            task,
            parse_solution(row.solution(seed), row.where(seed)),
            groups,
            np.random.default_rng(seed),
            ["nudged"],
        )
        for seed in range(n_seeds)
    ]
    parts = {name: np.stack([seed[name].welfare for seed in played]) for name in groups}
    return Pool(f"{solver}, {task_id}", parts["known"], parts["nudged"], parts["others"])


def read_pool(submission: str, task_id: str, solver: str, n_seeds: int) -> Pool:
    """The episodes in the records of a recipe; known ones are as good as any."""
    task, row = get_offline_task(task_id), RowFiles(SUBMISSIONS / submission / task_id / solver)
    agents = task.eval_agents
    welfare = []
    for seed in range(n_seeds):
        returns = row.array(seed, "episode_returns", (len(agents), None))
        welfare.append([normalise(task, agents, episode).mean() for episode in returns.T])
    known = np.array(welfare)
    return Pool(f"{solver}, {task_id} (recipe)", known, known, known, MAX_RECIPE_EPISODES)


def draw(
    pool: Pool, rng: np.random.Generator, *, elsewhere: bool = False, raised: float = 0.0
) -> Comparison:
    """One verification of a row.

    Args:
        pool: its episodes.
        rng: draws them.
        elsewhere: whether the claim comes from another machine.
        raised: added to the claim of each seed.
    """
    everything = np.concatenate((pool.known, pool.others), axis=1)

    def episodes(number: int) -> FloatArray:
        return everything[:, rng.integers(everything.shape[1], size=number)]

    known, n_first = episodes(20), int(rng.integers(FIRST_EPISODES[0], FIRST_EPISODES[1] + 1))
    held_out = play_in_rounds(lambda _, n: episodes(n), n_first, pool.limit, 1.0, lambda: 0.0)
    changed, nudged = known, known
    if pool.is_chaotic:
        changed, nudged = episodes(20), episodes(20)
    else:
        changes = pool.nudged - pool.known
        changed, *more = (
            known + changes[:, rng.integers(changes.shape[1], size=20)] for _ in range(N_NUDGES + 1)
        )
        nudged = np.concatenate(more, axis=1)
    claims = ((changed if elsewhere else known).mean(axis=1) + raised).tolist()
    return compare(claims, known, held_out, None if is_exact(claims, known) else nudged)


def _trial(pool: Pool, elsewhere: bool, raised: float = 0.0) -> Trial:
    return lambda rng: draw(pool, rng, elsewhere=elsewhere, raised=raised)


def cheats(n_seeds: int) -> Mapping[str, Trial]:
    """Trials of rows that claim what is not so."""

    def policies(
        known: Callable[[np.random.Generator, int], FloatArray],
        held_out: Callable[[np.random.Generator, int], FloatArray],
        raised: float = 0.0,
    ) -> Trial:
        def trial(rng: np.random.Generator) -> Comparison:
            own = known(rng, 20)
            played = play_in_rounds(lambda _, n: held_out(rng, n), 50, 2000, 1.0, lambda: 0.0)
            claims = (own.mean(axis=1) + raised).tolist()
            return compare(claims, own, played, None if raised == 0.0 else own)

        return trial

    def normal(mean: float, spread: float) -> Callable[[np.random.Generator, int], FloatArray]:
        return lambda rng, n: mean + spread * rng.normal(size=(n_seeds, n))

    def coin(high: float, chance: float) -> Callable[[np.random.Generator, int], FloatArray]:
        return lambda rng, n: high * (rng.random((n_seeds, n)) < chance).astype(np.float64)

    return {
        "known: 100; others: 50 (spread 1)": policies(normal(100, 1), normal(50, 1)),
        "known: 100; others: 100 or nothing": policies(normal(100, 0), coin(100, 0.5)),
        "known: 80; others: 80 or nothing, 60 in the mean": policies(normal(80, 0), coin(80, 0.75)),
        "known: 80; others: 75 (spread 1)": policies(normal(80, 1), normal(75, 1)),
        "known: 80; others: 75 (spread 10)": policies(normal(80, 10), normal(75, 10)),
        "known: 88.08; others: nothing": policies(normal(88.08, 0), normal(0, 0)),
        "+2.00 on every seed (spread 5)": policies(normal(50, 5), normal(50, 5), 2.0),
        "+0.10 on every seed (spread 25)": policies(normal(50, 25), normal(50, 25), 0.1),
    }


def accepted(trial: Trial, n_trials: int) -> float:
    """Share of trials that pass, percent."""
    n_passed = 0
    for number in range(n_trials):
        try:
            trial(np.random.default_rng(number)).check()
        except ValueError:
            continue
        n_passed += 1
    return 100.0 * n_passed / n_trials


ROWS = (
    ("example-evolution-strategies", "ResourceGathering-n25-k3-v0", "evolution_strategies", 400),
    ("reference", "ResourceGathering-n25-k1-v0", "em", 400),
    ("reference", "ResourceGathering-n25-k3-v0", "clustering", 400),
    ("reference", "ResourceGathering-n25-k10-v0", "em", 400),
    ("reference-universal", "ResourceGathering-n25-k25-v0", "universal", 200),
    ("reference-offline", "CartPoleHet-n500-pure-v1", "bcq", 400),
    ("reference-offline", "CartPoleHet-n500-pure-v1", "behaviour", 400),
    ("reference-offline", "CartPoleHet-n500-pure-eps40-v1", "cql", 400),
    ("reference-offline", "CartPoleHet-n500-random-v1", "persim_bcq", 400),
    ("reference-agent", "CartPoleHet-n500-pure-v1", "morel", 400),
    ("reference-offline", "MountainCarHet-n500-pure-v1", "bcq", 400),
    ("reference-offline", "MountainCarHet-n500-random-v1", "behaviour", 400),
    ("reference-agent", "MountainCarHet-n500-pure-eps20-v1", "cql", 400),
    ("reference-agent", "MountainCarHet-n500-pure-eps20-v1", "morel", 400),
    ("reference-offline", "MountainCarHet-n500-pure-eps40-v1", "persim_bcq", 400),
    ("reference", "HalfCheetahVel-n100-k5-v0", "em", 60),
    ("reference", "HalfCheetahVel-n100-k5-v0", "clustering", 60),
    ("reference", "HalfCheetahVel-n100-k5-v0", "end_to_end", 60),
    ("reference", "HalfCheetahVel-n100-k5-v0", "random_assignment", 60),
    ("reference-em-plus", "HalfCheetahVel-n100-k5-v0", "em_plus", 60),
    ("reference-outcome", "HalfCheetahVel-n100-k5-v0", "em", 60),
    ("reference-universal", "HalfCheetahVel-n100-k1-v0", "universal", 60),
    ("reference-universal", "HalfCheetahVel-n1000-k50-v0", "universal", 10),
    ("reference-robots", "AntVel-n100-k5-v0", "em", 20),
    ("reference-robots", "AntVel-n100-k5-v0", "universal", 20),
    ("reference-robots", "HopperVel-n100-k5-v0", "em", 40),
    ("reference-robots", "HopperVel-n100-k5-v0", "universal", 40),
    ("reference-robots", "Walker2dVel-n100-k5-v0", "em", 40),
    ("reference-robots", "Walker2dVel-n100-k5-v0", "universal", 40),
)
"""Submission, task, solver, episodes of the pool."""
RECIPES = (
    ("reference-gpu", "CartPoleHet-n500-pure-v1", "persim"),
    ("reference-gpu", "MountainCarHet-n500-pure-v1", "persim"),
    ("reference-planning", "CartPoleHet-n500-random-v1", "cadm"),
    ("reference-planning", "CartPoleHet-n500-pure-eps20-v1", "pe_cadm"),
    ("reference-planning", "CartPoleHet-n500-pure-v1", "true_env_mpc"),
    ("reference-planning", "MountainCarHet-n500-random-v1", "cadm"),
    ("reference-planning", "MountainCarHet-n500-pure-eps20-v1", "pe_cadm"),
    ("reference-planning", "MountainCarHet-n500-pure-v1", "true_env_mpc"),
)


def describe(n_trials: int, environments: Sequence[str]) -> list[str]:
    """The lines of both tables, of tasks whose id begins with one of these."""
    head = ["row", "kind", "episodes", "± 95 %", "honest", "honest, other machine"]
    head += [f"+{raised:g}" for raised in RAISED]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 2}{'---:|' * (len(head) - 2)}"]
    chosen = tuple(environments)
    pools = [functools.partial(play_pool, *row, 3) for row in ROWS if row[1].startswith(chosen)]
    pools += [functools.partial(read_pool, *row, 3) for row in RECIPES if row[1].startswith(chosen)]
    for make in pools:
        began = time.perf_counter()
        pool = make()
        sample = [draw(pool, np.random.default_rng(number)) for number in range(20)]
        spread = bool(pool.others.mean(axis=0).std() > 1e-9)
        kind = "chaotic" if pool.is_chaotic else "stochastic" if spread else "deterministic"
        shares = [accepted(_trial(pool, elsewhere), n_trials) for elsewhere in (False, True)]
        shares += [
            accepted(_trial(pool, pool.is_chaotic, raised), n_trials // 5) for raised in RAISED
        ]
        cells = [pool.name, kind, f"{np.mean([c.n_episodes for c in sample]):.0f}"]
        cells += [f"{np.mean([c.half_width for c in sample]):.2f}"]
        lines.append(f"| {' | '.join([*cells, *(f'{share:.1f}' for share in shares)])} |")
        print(f"{lines[-1]} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    lines += [
        "",
        "| cheat | one seed | three seeds | ten seeds | ranks at |",
        "|---|---:|---:|---:|---:|",
    ]
    table = [cheats(n_seeds) for n_seeds in (1, 3, 10)]
    for name in table[0]:
        own = [f"{accepted(trials[name], n_trials // 5):.1f}" for trials in table]
        ranked = [table[0][name](np.random.default_rng(number)).score for number in range(20)]
        lines.append(f"| {name} | {' | '.join(own)} | {np.mean(ranked):.1f} |")
    return lines


def main() -> None:
    """Play, simulate, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--environments", nargs="+", default=[""], help="all by default")
    arguments = parser.parse_args()
    lines = describe(arguments.trials, arguments.environments)
    command = " ".join(["python -m scripts.simulate_verification", *sys.argv[1:]])
    text = f"""# What `verify --full` accepts

Percent of simulated verifications that pass. `{command}`; {cpu_model()}, {usable_cores()} cores.

Rows of three seeds; `scripts/simulate_verification.py` says how a verification is simulated.
episodes, ± 95 %: held-out episodes and half of the interval of the measured score, means. +0.5 and
so on: the claim of every seed raised by so many points, on the machine of the claim; where rounding
changes most episodes ("chaotic") on another one, which is the liar's best excuse. What a raised
claim gains is a number beside the measured score, which ranks.

Cheats reach something else on known episodes than on held-out ones. With one seed whose results
spread widely, 20 known episodes may be good by chance, and two of these cheats are mostly accepted.
They gain nothing: "ranks at" is the mean score, with one seed, by which the board would rank them,
and it is what they reach on held-out episodes, or less where only the lower end of the interval
counts.
"""
    write_text(arguments.out, "\n".join([text, *lines, ""]))


if __name__ == "__main__":
    main()
