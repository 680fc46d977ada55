"""One policy for every preference, and k of its conditions."""

from baselines.online.universal.solver import Config, also_solves, check, config_for, solve

__all__ = ["Config", "also_solves", "check", "config_for", "solve"]
