"""Bound and attain the best constant velocities of targets in a plane; writes the package's table.

    python -m scripts.certify_planar_targets [--out FILE]

For every budget k of the environments whose agents want velocities in a plane:

  - attained: k velocities, the best that a mixed-integer programme (HiGHS) finds among candidates;
  - bound: no k velocities are worth more.  For any payments u (n,) >= 0, agent i is paid u_i and
    then gains max(0, r_i(v) - u_i) on every chosen velocity, so that k of them are worth at most
    sum_i u_i + k max_v sum_i max(0, r_i(v) - u_i).  The maximum over the plane is found by
    dividing squares: a square is worth no more than what each agent gains at its nearest point.

The payments are the dual of the relaxed programme on the candidates; where the maximum lies becomes
a candidate, until both numbers meet or ROUNDS are over.  `rmdp_bench.ceilings` reads the table, and
a test computes the bound again from the payments.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_matrix, csr_matrix, vstack

from rmdp_bench.ceilings import PLANAR_TABLE, greatest_gain, planar_grid, planar_rewards
from rmdp_bench.envs import get_population
from rmdp_bench.files import write_json
from rmdp_bench.population import TargetPopulation

FloatArray = NDArray[np.float64]
ENVIRONMENTS = {"rmdp/AntVel2d-n100-v0": (1, 2, 5, 10)}
ROUNDS = 6
N_NEW = 60
"""Candidates of a round."""
GOOD_GAP = 0.05
"""Agents, at which a round is the last."""


class Programme:
    """Which k of m candidates: agents take their best; variables y (m,), then x of each pair."""

    def __init__(self, population: TargetPopulation, candidates: FloatArray, k: int) -> None:
        """Write down the constraints: x <= y, one candidate for each agent, k candidates."""
        gains = planar_rewards(population, candidates)
        of, agent = np.nonzero(gains > 0.0)
        m, n_pairs, n = len(candidates), len(of), population.n_agents
        pairs = np.arange(n_pairs)
        signs = np.concatenate([np.ones(n_pairs), -np.ones(n_pairs)])
        rows, columns = np.concatenate([pairs, pairs]), np.concatenate([m + pairs, of])
        size = m + n_pairs
        self.matrix = csr_matrix(
            vstack(
                [
                    coo_matrix((signs, (rows, columns)), shape=(n_pairs, size)),
                    coo_matrix((np.ones(n_pairs), (agent, m + pairs)), shape=(n, size)),
                    coo_matrix((np.ones(m), (np.zeros(m, int), np.arange(m))), shape=(1, size)),
                ]
            )
        )
        self.limits = np.concatenate([np.zeros(n_pairs), np.ones(n), [float(k)]])
        self.costs = np.concatenate([np.zeros(m), -gains[of, agent]])
        self.n_pairs, self.n_candidates, self.n_agents = n_pairs, m, n

    def payments(self) -> tuple[FloatArray, float]:
        """Dual of the relaxed programme, what each agent is worth (n,), and its optimum."""
        result = linprog(
            self.costs, A_ub=self.matrix, b_ub=self.limits, bounds=(0, None), method="highs-ipm"
        )
        dual = result.ineqlin.marginals[self.n_pairs : self.n_pairs + self.n_agents]
        return np.maximum(-np.asarray(dual, np.float64), 0.0), -float(result.fun)

    def choice(self) -> NDArray[np.intp]:
        """The chosen candidates."""
        integrality = np.zeros(len(self.costs))
        integrality[: self.n_candidates] = 1
        result = milp(
            self.costs,
            constraints=LinearConstraint(self.matrix, -np.inf, self.limits),
            bounds=Bounds(0, 1),
            integrality=integrality,
        )
        return np.flatnonzero(result.x[: self.n_candidates] > 0.5)


def certify(population: TargetPopulation, k: int) -> dict[str, object]:
    """The table's entry of one budget."""
    candidates = np.concatenate([population.targets, planar_grid(population)])
    best, payments = np.inf, np.zeros(population.n_agents)
    for number in range(ROUNDS):
        own, relaxed = Programme(population, candidates, k).payments()
        gain, where = greatest_gain(population, own)
        upper = float(own.sum() + k * gain)
        print(f"k {k}, round {number}: {relaxed:.3f} to {upper:.3f} of {len(own)} agents")
        if upper < best:
            best, payments = upper, own
        if upper - relaxed < GOOD_GAP:
            break
        few = where[np.linspace(0, len(where) - 1, min(N_NEW, len(where))).astype(int)]
        candidates = np.unique(np.round(np.concatenate([candidates, few]), 6), axis=0)
    chosen = candidates[Programme(population, candidates, k).choice()]
    attained = planar_rewards(population, chosen).max(axis=0).sum()
    return {
        "bound": round(100.0 * best / population.n_agents, 6),
        "attained": round(100.0 * attained / population.n_agents, 6),
        "velocities": chosen.tolist(),
        "payments": payments.tolist(),
    }


def main() -> None:
    """Certify all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("rmdp_bench/data") / PLANAR_TABLE)
    arguments = parser.parse_args()
    table = {}
    for env_id, budgets in ENVIRONMENTS.items():
        population = get_population(env_id)
        assert isinstance(population, TargetPopulation), env_id
        table[population.content_hash()] = {str(k): certify(population, k) for k in budgets}
    write_json(arguments.out, table)


if __name__ == "__main__":
    main()
