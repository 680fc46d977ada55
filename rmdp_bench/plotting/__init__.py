"""The figures: from plain data to a picture file, and nothing else.

    plot_paths                 tours learned on the grid, one panel per representative    Figure 1
    plot_welfare_by_budget     social welfare against k, solvers and ceiling         Figures 2, 3
    plot_fairness              social welfare against the worst agent, over k, by objective
    plot_preferences           who is assigned to whom, by preference                Figures 4, 5
    plot_returns_by_target     what each agent receives, and the ceiling
    plot_learning_curves       social welfare during training
    plot_dataset               states, agents and episodes of a dataset
    plot_factors               what was learned about agents, by hidden parameter    PerSim's 1
    plot_agent_returns         offline: the return of each scored agent

The numbers are those of the paper's figures.  The suffix of the file decides the format: .png, .svg
or .pdf.  Colours suit colour-blind readers; markers, dashes, hatches and numbers repeat what they
say.  Solvers take their colours in the order in which they are given, or of `order`;
representatives in that of their columns, which `order_representatives` gives a meaning.
"""

from __future__ import annotations

from rmdp_bench.plotting.datasets import plot_dataset
from rmdp_bench.plotting.offline import plot_agent_returns, plot_factors, plot_sorted_returns
from rmdp_bench.plotting.paths import plot_paths
from rmdp_bench.plotting.preferences import (
    order_representatives,
    plot_preferences,
    plot_returns_by_target,
)
from rmdp_bench.plotting.welfare import (
    WELFARE_LABEL,
    plot_fairness,
    plot_learning_curves,
    plot_welfare_by_budget,
)

__all__ = [
    "WELFARE_LABEL",
    "order_representatives",
    "plot_agent_returns",
    "plot_dataset",
    "plot_factors",
    "plot_fairness",
    "plot_learning_curves",
    "plot_paths",
    "plot_preferences",
    "plot_returns_by_target",
    "plot_sorted_returns",
    "plot_welfare_by_budget",
]
