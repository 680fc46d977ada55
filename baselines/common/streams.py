"""What streams of random numbers are for: the number that follows the seed in a stream's key.

Every purpose draws from a stream of its own, so that one that needs more numbers, such as a wider
network's start, moves no other. Solvers that cannot meet in one training may use the same number
for different things. Parameters of `ppo` and `universal` start from the seed alone; planners have
no purposes, their keys are a seed, an agent and a copy of the world.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class PPO(IntEnum):
    """Of `baselines.online.ppo`, and of the rules that move its assignment."""

    ACTION_NOISE = 1
    MINIBATCHES = 2
    WORLDS = 3
    ASSIGNMENT = 4
    """The first one, and whom EM lends."""
    CANDIDATES = 5
    """Of `em_plus`, as the following are."""
    PLACES = 6
    STARTS = 7
    SCOUTS = 8
    TIES = 9
    """Of `parameter_cover`."""
    PROJECTION = 10
    """Of `affinity_grouping`, as the following is."""
    SUBSETS = 11


@unique
class Universal(IntEnum):
    """Of `baselines.online.universal`."""

    TRAINING = 1
    """Conditions, action noise and mini-batches."""
    WORLDS = 3
    TRIALS = 5
    CANDIDATES = 6


@unique
class Replay(IntEnum):
    """Of members that learn from logged data: 0 and 1 are theirs in `BCQ` and `CQL` as well."""

    INITIAL_PARAMETERS = 0
    MINIBATCHES = 1


@unique
class BCQ(IntEnum):
    """Of `bcq` and `persim_bcq`, beside `Replay`."""

    TARGET_NOISE = 2
    LATENT_NOISE = 3
    ACTOR_NOISE = 4
    POLICY_NOISE = 5


@unique
class CQL(IntEnum):
    """Of `cql`, beside `Replay`."""

    POLICY_NOISE = 2
    UNIFORM_ACTIONS = 3


@unique
class PerSim(IntEnum):
    """Of PerSim's simulators, and of what is trained in them."""

    INITIAL_PARAMETERS = 1
    MINIBATCHES = 2
    SIMULATED_EPISODES = 3
    FIRST_OBSERVATIONS = 4
    ACTOR = 5
    BASELINE = 6
    POLICY = 7
    """Whence its roll-outs start, and their noise, as in MOReL."""


@unique
class CaDM(IntEnum):
    """Of `cadm` and `pe_cadm`."""

    ENCODER = 0
    FORWARD_MODEL = 1
    BACKWARD_MODEL = 2
    BOOTSTRAP = 3
    MINIBATCHES = 4


@unique
class MOReL(IntEnum):
    """Of `morel`."""

    MODEL = 0
    ACTOR = 1
    BASELINE = 2
    MODEL_MINIBATCHES = 3
    POLICY = 4
