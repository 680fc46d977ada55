"""EM, and what keeps it from the local optimum of its split of the agents.

The rules are the paper's (`em`): k policies of the same networks and learner, and of the agents
only their rewards along the transitions made. All transitions count: where there are more
representatives or several starts, training is shorter. EM alternates between whom each serves and
how it acts, as Lloyd's algorithm does, and ends like it where the start leads: in HalfCheetah one
representative keeps 40 to 63 of 100 agents, more than it can serve. What is added, each with a
switch:

  - Seeding (`seeding`). Welfare is Sum-of-Minimum optimisation, sum_i max_j of a reward, for which
    Ding, Chen, Wang and Yin (ICML 2024, arXiv 2402.07070) seed Lloyd's algorithm as k-means++ does:
    an agent is drawn in proportion to what it loses with the places chosen so far, and its own best
    is the next place. Their algorithm 1 minimises the drawn agent's function; here its best is the
    best that was SEEN so far, as the reward of a transition of any representative tells what all
    agents would receive from repeating it (`places`). And the best of several draws is
    taken, each improved by exchanging places. Representatives then train for the agents of their
    places for `patience` updates.
  - Split and merge (`split_merge`), every `review_interval` updates. Each representative stands for
    the best place seen in its own batch; a place seen in anybody's batch is a candidate. If one in
    the place of representative j would raise sum_i max_j by the share `least_gain`, then j leaves
    its agents to the others (merge) and becomes a copy of the representative that is nearest to
    the candidate (split): actor head, critic head, moments of Adam. Until it has had `patience`
    updates the E-step takes what the candidate promises for its returns. A representative whose
    agents receive less than the share `least_share` of what agents of others do is lost: it stands
    for what it gives, no more, and where nothing better is found for it, it becomes a copy of one
    that is not, and a scout.
  - A scout (`scout`), one representative more in the first stage, `exploration` of all transitions.
    Nobody is served by it. It trains for the agents to whom nobody has given `reached` percent
    yet: as soon as it serves some, they are dropped, and it moves on along the range of
    preferences. So places beyond the next local optimum are seen, and splits happen on its way.
  - Soft assignments (`temperature` > 0): the softmax of returns, hardened geometrically, as in
    deterministic annealing. A solution is always hard.
  - Several starts (`n_starts`) as further seeds of the batch, in the first stage; the one with the
    best training returns goes on.

Choices: a representative without agents trains as a scout does, where EM lends it an agent.
`candidates` says what can be repeated: a transition where rewards come all the time, a whole
episode where they come at its end. The first may promise too much: a speed seen in one step of a
stride may not be one that a robot can hold.

Deep-sea treasure with 100 weightings (`DeepSeaTreasure-n100-kK-v0`, `--seeds 0:3`), as a share of
the exact optimum, three seeds: 100 % for k = 1, 98.4 % for 2, 98.2 to 98.3 % for 3 and 5, for the
reason that `em` has; with the first 50 of them (`--agents 50`) 100 %, 98.3 %, 98.2 to 98.4 %, and
98.1 to 98.2 % for k = 1, 2, 3 and 5. A place can be chosen only once somebody has been there, and
three starts leave each a third of the steps to come upon the farthest treasure.
"""

from __future__ import annotations

from collections.abc import Sequence

from baselines.online.em_plus.settings import EPISODE_CANDIDATES, Config
from baselines.online.em_plus.stages import make_stages, solve_in_stages
from baselines.online.ppo.settings import check, task_settings
from rmdp_bench.runs import RunLog
from rmdp_bench.solution import Solution
from rmdp_bench.tasks import OnlineTask, Task

__all__ = ["SEEDS_AS_ONE_BATCH", "Config", "check", "config_for", "solve"]

SEEDS_AS_ONE_BATCH = True


def config_for(task: Task) -> Config:
    """Settings for a task."""
    is_robot = not isinstance(task, OnlineTask) or task.continuous
    return Config(**task_settings(task) | ({} if is_robot else EPISODE_CANDIDATES))


def solve(
    task: OnlineTask, config: Config, seeds: Sequence[int], device: str, log: RunLog
) -> list[Solution]:
    """Train the k representatives of every seed, as one batch.

    Returns:
        One solution for each seed.
    """
    stages = make_stages(
        task,
        config.batch_size,
        int(config.scout and task.n_representatives < task.n_agents),
        config.n_starts,
        config.exploration,
    )
    return solve_in_stages(task, config, seeds, device, log, stages)
