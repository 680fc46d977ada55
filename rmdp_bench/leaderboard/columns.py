"""Columns of the tables, as texts: for the terminal and for TABLES.md."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rmdp_bench.leaderboard import LOCAL
from rmdp_bench.runs.summary import Summary

SCORES = {
    "online": (
        *("welfare", "reassigned", "IQM [95 %]", "of ceiling", "worst agent", "10th pct.", "Gini"),
        *("Nash", "regret"),
    ),
    "offline": (
        *("normalised", "IQM [95 %]", "return", "worst agent", "unseen", "extrapolating"),
        *("RMSE", "median R2", "mean R2", "scoring s"),
    ),
}
"""Track -> columns of quality."""
REPORTED = {
    "unseen": "unseen†",
    "extrapolating": "extrapolating†",
    "RMSE": "RMSE†",
    "median R2": "median R2†",
    "mean R2": "mean R2†",
    "scoring s": "scoring s†",
}
"""Columns of quality that no verifier can play from the files of a row -> what boards call them."""
MEASURED = ("measured", "95 %", "claimed")
"""Columns of a board that stand for the first of `SCORES`."""
COSTS = ("transitions/s", "training h", "hours/seed", "peak MiB", "Wh/seed")
"""Columns of cost."""
MAX_DEVICE_NAME = 80
"""Characters that are shown of what a submission calls its device."""
_IQM = (
    "IQM: interquartile mean over seeds with its 95 % bootstrap interval, which is too narrow for "
    "few seeds: of three it is their range, and holds the median of all seeds three times out of "
    "four."
)
_TRANSITIONS = "transitions: budget per policy."
_USED = "used: transitions per policy, as counted."
_PREDICTION = (
    "of 50 steps predicted open-loop, over the test trajectories; in the clinic's tasks of the "
    "reading an hour ahead"
)
_SPEED = "transitions/s: of all policies and all seeds that trained together."
_WORST = "worst agent: the return of the agent served worst"
_ROW_NOTES = {
    "mark": (
        "mark: verified, measured from the row's policies; recipe, by running its command again; "
        "else nobody measured it."
    ),
    "rank": "rank: by what was measured, within the task.",
    "division": "division: closed, under the task's rules; open, with differences declared.",
    "solver": "solver: in brackets the settings in which it differs from other rows of its name.",
    "from": f"from: the submission; {LOCAL}: runs of yours; computed: of no solver.",
    "seeds": "seeds: how many runs the row is the mean of.",
}
"""What columns that every track has mean, as in `NOTES`."""
NOTES = {
    "online": {
        "welfare": (
            "Percent of a perfect episode. welfare: mean over agents, then over seeds, ± standard "
            "error, as trained: under the solver's own assignment."
        ),
        "IQM [95 %]": _IQM,
        "reassigned": (
            "reassigned: welfare if each agent had its best policy in the scoring episodes."
        ),
        "regret": (
            "regret: what welfare would gain if each agent had its best policy in the scoring "
            "episodes."
        ),
        "transitions": _TRANSITIONS,
        "used": _USED,
        "of ceiling": "of ceiling: share of the greatest welfare that k policies can have.",
        "worst agent": f"{_WORST}.",
        "10th pct.": "10th pct.: the return that a tenth of the agents stay below.",
        "Gini": "Gini: inequality of the agents' returns, from 0, all alike, to 1.",
        "Nash": "Nash: geometric mean of the agents' returns + 1, minus 1.",
        "transitions/s": _SPEED,
        **_ROW_NOTES,
    },
    "offline": {
        "normalised": (
            "normalised: return of the test agents, 0 for uniform actions and 100 for each one's "
            "reference, the optimum where it is known, mean over agents, then over seeds, ± "
            "standard error."
        ),
        "IQM [95 %]": _IQM,
        "unseen": "unseen: return of agents who are not in the data, normalised.",
        "extrapolating": (
            "extrapolating: return of agents whose parameters are out of the range of the data, "
            "normalised."
        ),
        "return": "return: mean over the test agents, in units of the reward.",
        "RMSE": f"RMSE: {_PREDICTION}, mg/dL.",
        "median R2": f"median R2: {_PREDICTION}.",
        "mean R2": "mean R2: far below the median where a few predictions diverge.",
        "worst agent": f"{_WORST}, normalised.",
        "scoring s": "scoring s: seconds in which a seed's policies were scored.",
        "transitions": _TRANSITIONS,
        "used": _USED,
        **_ROW_NOTES,
    },
}
"""Track -> what the columns mean: column -> a sentence or two, the most important first; each
stands alone, as others may be left out.
"""
COST_NOTES = {
    "transitions/s": _SPEED,
    "training h": "training h: hours per seed, without scoring.",
    "hours/seed": "hours/seed: wall time per seed, scoring included.",
    "peak MiB": "peak MiB: greatest memory of the process over seeds.",
    "Wh/seed": "Wh/seed: energy that the device used, scoring included.",
    "task": "task: of the rows below it.",
    "device": "device: the processor or GPU.",
    "solver": _ROW_NOTES["solver"],
    "from": _ROW_NOTES["from"],
}
"""The same of tables of cost."""
COMMON_SCALE_NOTE = (
    " In the clinic's tasks 0 is the best learned policy for all and 100 everybody's own, the same "
    "returns for all agents."
)
_COMMON_SCALES = {
    "online": (
        " Where agents differ in dynamics, 0 is one policy for all and 100 everybody's own, the "
        "same returns for all agents."
    ),
    "offline": COMMON_SCALE_NOTE,
}
"""Track -> what boards say of tasks whose scale is not that of the others."""
HETEROGENEOUS_NOTE = (
    "0 is the mean of one policy for all and 100 that of everybody's own, where these are known; "
    "else plain returns. welfare: mean over agents, then over seeds, ± standard error."
)
"""Of the column "welfare" of online tasks whose agents differ in dynamics."""
BOARD_NOTES = {
    "measured": (
        "measured: the verifier's, on held-out episodes that it drew, ± standard error over seeds. "
        "It ranks."
    ),
    "95 %": "95 %: its interval over episodes.",
    "claimed": (
        "claimed: what the records say, on the known episodes. The scores of single agents are "
        "those of the records."
    ),
}
"""The same for what is different where a verifier has measured."""
VERIFY_NOTES = {
    "claimed": "claimed: what the records say; like measured a mean over seeds, in percent.",
    "measured": "measured: on held-out episodes that the verifier drew.",
    "95 %": BOARD_NOTES["95 %"],
    "episodes": "episodes: held-out ones of each policy, offline of each agent.",
    "status": _ROW_NOTES["mark"].replace("mark:", "status:"),
    "task": "task: what the row's solver was run on.",
    "solver": "solver: its name in the records.",
    "seeds": _ROW_NOTES["seeds"],
}
"""The same of what `verify` prints."""
COMPUTED_NOTES = {
    "best known": (
        "best known: k of the policies of all verified rows of the environment, whatever their "
        "budget, chosen exactly; no verified row is above it."
    ),
    "reachable reference": (
        "reachable reference: k of policies that were each trained for one speed, chosen exactly."
    ),
}
"""The same of rows that are computed, by the name in the column "solver"."""
REPORTED_NOTE = {"†": "†: as reported; these cannot be played again from the files of a row."}
"""The same where a board has columns of `REPORTED`."""


def board_columns(track: str) -> list[str]:
    """The `SCORES` of a track after the first, as boards call them."""
    return [REPORTED.get(name, name) for name in SCORES[track][1:]]


def board_notes(track: str, names: Iterable[str]) -> dict[str, str]:
    """What some columns and computed rows of a board mean, and what its scores are.

    Keys are as in `NOTES` and `COMPUTED_NOTES`.
    """
    reported = REPORTED_NOTE if REPORTED.keys() & set(SCORES[track]) else {}
    own = {REPORTED.get(name, name): text for name, text in NOTES[track].items()}
    scale = SCORES[track][0]
    own[scale] += _COMMON_SCALES[track]
    texts = BOARD_NOTES | reported | own | COMPUTED_NOTES
    return {name: texts[name] for name in texts if name in {scale, *reported, *names}}


def number(value: float | None, digits: int = 1) -> str:
    """A number for a table; an unknown one is a dash."""
    return "–" if value is None else f"{rounded(value, digits):,.{digits}f}"


def row_name(summary: Summary) -> str:
    """The solver, and what sets the row apart from others of the same solver."""
    return f"{summary.solver} ({summary.settings})" if summary.settings else summary.solver


def score_cells(summary: Summary) -> list[str]:
    """A text for each of the `SCORES` of its track."""
    interval = summary.interval
    ends = "" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]"
    share, offline = summary.share_of_ceiling, summary.offline
    error = "" if summary.standard_error is None else f" ± {number(summary.standard_error, 2)}"
    if offline is not None:
        return [
            number(summary.social_welfare, 1) + error,
            number(summary.interquartile_mean, 1) + ends,
            number(offline["mean_return"]),
            number(summary.worst_agent),
            number(offline["unseen_welfare"]),
            number(offline["extrapolating_welfare"]),
            number(offline["rmse_mean"], 3),
            number(offline["r2_median"], 3),
            number(offline["r2_mean"], 3),
            number(offline["evaluation_seconds"], 0),
        ]
    return [
        number(summary.social_welfare, 2) + error,
        number(summary.reassigned_welfare, 2),
        number(summary.interquartile_mean, 1) + ends,
        "–" if share is None else f"{number(100 * share)} %",
        number(summary.worst_agent),
        number(summary.tenth_percentile),
        number(summary.gini, 3),
        number(summary.nash_welfare),
        number(summary.assignment_regret, 2),
    ]


def cost_cells(summary: Summary) -> list[str]:
    """A text for each of the `COSTS`."""
    return [
        number(summary.transitions_per_second, 0),
        number(summary.train_hours, 3),
        number(summary.wall_hours, 3),
        number(summary.peak_memory_mib, 0),
        number(summary.watt_hours, 1),
    ]


def measured_cells(
    summary: Summary, score: float | None, claimed: float, ends: tuple[float, float] | None
) -> list[str]:
    """A text for each of `MEASURED`.

    Args:
        summary: with measured scores, if there are any.
        score: that ranks; None: not measured.
        claimed: social welfare of the records.
        ends: of the interval of what was measured.
    """
    if score is None:
        return ["–", "–", number(claimed, 2)]
    error = "" if summary.standard_error is None else f" ± {number(summary.standard_error, 2)}"
    interval = "–" if ends is None else f"[{number(ends[0], 2)}, {number(ends[1], 2)}]"
    return [number(score, 2) + error, interval, number(claimed, 2)]


NOISE_DIGITS = 10
"""Significant digits that machines agree on: sums may differ in their last bits."""


def rounded(value: float | None, digits: int) -> float | None:
    """A number with at most `digits` decimals; None for None, NaN and infinity.

    Rounded twice: what two machines compute as just below and just above a half is first made the
    same, and then falls to the same side.
    """
    if value is None or not math.isfinite(value):
        return None
    return round(float(f"{value:.{NOISE_DIGITS}g}"), digits) + 0.0  # no negative zero


def rounded_all(values: Iterable[float | None], digits: int) -> list[float | None]:
    """`rounded` for each."""
    return [rounded(value, digits) for value in values]
