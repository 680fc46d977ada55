"""EM, and what keeps it from the local optimum of its split."""

from baselines.online.em_plus.solver import Config, check, config_for, solve

__all__ = ["Config", "check", "config_for", "solve"]
