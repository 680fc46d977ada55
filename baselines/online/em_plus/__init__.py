"""EM, and what keeps it from the local optimum of its split."""

from baselines.online.em_plus.solver import SEEDS_AS_ONE_BATCH, Config, check, config_for, solve

__all__ = ["SEEDS_AS_ONE_BATCH", "Config", "check", "config_for", "solve"]
