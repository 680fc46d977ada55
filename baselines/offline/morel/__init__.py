"""MOReL: a policy that plans in a pessimistic model."""

from baselines.offline.morel.solver import Config, check, config_for, solve

__all__ = ["Config", "check", "config_for", "solve"]
