"""PerSim: a simulator for each agent; see `solver`, and `persim_bcq` for BCQ on its data."""

from baselines.offline.persim.solver import Config, check, config_for, solve

__all__ = ["Config", "check", "config_for", "solve"]
