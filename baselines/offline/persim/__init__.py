"""PerSim: a simulator for each agent."""

from baselines.offline.persim.solver import Config, check, config_for, solve

__all__ = ["Config", "check", "config_for", "solve"]
