"""Theorem 1 on small tabular r-MDPs: with an exact M-step, EM climbs to a local optimum.

The E-step is the solver's own (`baselines.online.em.e_step`); the M-step is solved by enumerating
the deterministic stationary policies, among which a discounted MDP always has an optimum.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from baselines.online.ppo.assignments import e_step

N_STATES, N_ACTIONS, N_AGENTS, GAMMA = 4, 2, 7, 0.9
POLICIES = np.array(list(itertools.product(range(N_ACTIONS), repeat=N_STATES)))


def all_values(seed: int) -> npt.NDArray[np.float64]:
    """Values (policies, n) of every deterministic policy for every agent, at a random start."""
    generator = np.random.default_rng(seed)
    transitions = generator.dirichlet(np.full(N_STATES, 0.5), (N_STATES, N_ACTIONS))
    rewards = generator.random((N_AGENTS, N_STATES, N_ACTIONS)) ** 3
    start = generator.dirichlet(np.ones(N_STATES))
    values = []
    for policy in POLICIES:
        states = np.arange(N_STATES)
        matrix = np.eye(N_STATES) - GAMMA * transitions[states, policy]
        values.append(start @ np.linalg.solve(matrix, rewards[:, states, policy].T))
    return np.array(values)


def m_step(
    values: npt.NDArray[np.float64], assigned: npt.NDArray[np.intp], k: int
) -> npt.NDArray[np.intp]:
    """The best policy for the agents of each representative; any for one without agents."""
    return np.array([values[:, assigned == j].sum(1).argmax() for j in range(k)])


def welfare(
    values: npt.NDArray[np.float64],
    policies: npt.NDArray[np.intp],
    assigned: npt.NDArray[np.intp],
) -> float:
    return float(values[policies[assigned], np.arange(N_AGENTS)].sum())


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_em_climbs_to_a_local_optimum(seed: int, k: int) -> None:
    values = all_values(seed)
    generator = np.random.default_rng(seed)
    assigned = generator.integers(k, size=N_AGENTS)
    policies = generator.integers(len(POLICIES), size=k)
    history = [welfare(values, policies, assigned)]
    for _ in range(50):
        before = assigned.copy()
        policies = m_step(values, assigned, k)
        history.append(welfare(values, policies, assigned))
        assigned = e_step(values[policies].T, assigned)
        history.append(welfare(values, policies, assigned))
        if (assigned == before).all():
            break
    assert (assigned == before).all(), "EM did not end"
    assert (np.diff(history) >= -1e-9).all(), "welfare fell"

    # A local optimum: neither part can be improved while the other stays, by brute force.
    for other in itertools.product(range(k), repeat=N_AGENTS):
        assert welfare(values, policies, np.array(other)) <= history[-1] + 1e-9
    for j, policy in itertools.product(range(k), range(len(POLICIES))):
        changed = policies.copy()
        changed[j] = policy
        assert welfare(values, changed, assigned) <= history[-1] + 1e-9


def test_the_best_of_many_starts_is_the_global_optimum() -> None:
    k, found, single_starts = 2, 0, 0
    for seed in range(20):
        values = all_values(seed)
        best = max(
            values[list(pair)].max(0).sum()
            for pair in itertools.combinations(range(len(POLICIES)), k)
        )
        ends = []
        for start in range(20):
            assigned = np.random.default_rng(start).integers(k, size=N_AGENTS)
            for _ in range(20):
                policies = m_step(values, assigned, k)
                assigned = e_step(values[policies].T, assigned)
            ends.append(welfare(values, policies, assigned))
        assert max(ends) <= best + 1e-9
        found += max(ends) >= best - 1e-9
        single_starts += ends[0] >= best - 1e-9
    assert found >= 19
    assert single_starts < 20  # a local optimum is all that the theorem promises
