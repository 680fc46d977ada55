"""Three days of 100 patients with type 1 diabetes, a glucose sensor, an insulin pump and meals.

Description:
    Every 5 minutes a controller reads a sensor and sets a pump, for a patient whose glucose and
    insulin follow Hovorka's model (`hovorka`: equations, source, integration). Meals (`days`) come
    at random hours, about 190 g of carbohydrates a day; each is eaten at a constant rate in the
    step that begins when it is announced. The same dose is too much for one patient and too little
    for another, and patients differ in what they fear more, lows or highs: one policy cannot serve
    them all well. This is a model with a population and a scenario as described, and no medical
    device: nothing here is about what any person should do.

Population:
    `DynamicsPopulation` of 100 patients, 20 unseen and 20 extrapolating ones (lighter or heavier,
    and slower or faster to digest, than anybody in the range). The 16 parameters of the model, from
    published distributions (`patients`), and `low_weight`, the patient's taste. All 100 are test
    agents.

Observation:
    float32 (7,): what a controller sees, and nothing hidden.
    0  reading of the sensor, mg/dL, in [40, 400]
    1  its trend over the last 15 minutes, mg/dL per minute
    2  insulin on board, U: what is left of the doses of this episode, basal ones included, by a
       curve that is the same for everybody (two compartments of 55 minutes)
    3  carbohydrates that the patient announces now, g; 0 without a meal
    4  minutes since the meal announced before, at most 360
    5, 6  sine and cosine of the time of day; an episode begins at midnight
    With `memory`, the readings and then the doses (U in 5 minutes) of so many hours follow, oldest
    first. Before the episode began, readings were the first one and doses 0.

Action:
    float32 (2,), in absolute units, not relative to the patient: basal rate in [0, 6] U/h, and
    bolus in [0, 20] U, both delivered at a constant rate over the step. The pump works in pulses of
    0.05 U, keeps the rest for later, and delivers at most 20 U in any 60 minutes.

Reward:
    Minus the risk of the glucose in plasma, mg/dL, at the end of the step: Kovatchev's risk
    (`risk`) with the patient's own weight of lows against highs. 0 is best, at 112.5 mg/dL; at 70
    and at 180 mg/dL it is -7.7 for a weight of 0.5. Minus a return over the steps is the mean risk.
    It is not a function of observations: the glucose and the weight are hidden.

Episode end:
    None but truncation after 864 steps, three days. For longer ones give `days` and, of Gymnasium,
    `max_episode_steps` of 288 a day; steps beyond `days` have the same days again and again.

Arguments:
    population_seed: seed of all agents (0).
    parameters: (n, 17) in the range, agents to put in the place of all others; agent i is row i.
    announcement: "estimated", with an error of the patient's of up to 30 % (the default), "exact",
    or "none": meals come as a surprise.
    missed: share of the meals that the patient forgets to announce, 0 to 1 (0).
    memory: hours of readings and doses in the observation, 0 to 24 (0).
    days: that are drawn at a reset, 1 to 366 (3).
    render_mode: "rgb_array", the trace of the episode (400 x 800), or None.

Version history:
    v0: first version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from rmdp_bench.envs.core.checks import (
    Array,
    Rows,
    check_integer,
    check_keywords,
    check_n_envs,
)
from rmdp_bench.envs.core.heterogeneous import (
    HeterogeneousEnv,
    HeterogeneousVectorEnv,
    HeterogeneousWorld,
    choose_population,
)
from rmdp_bench.envs.core.world import State
from rmdp_bench.envs.glucose import days, hovorka
from rmdp_bench.envs.glucose import risk as risks
from rmdp_bench.envs.glucose.boluses import MAX_BASAL, MAX_BOLUS
from rmdp_bench.envs.glucose.drawing import draw_trace
from rmdp_bench.envs.glucose.patients import check_patients, glucose_population
from rmdp_bench.population import DynamicsPopulation

RENDER_MODES = ["rgb_array"]
ANNOUNCEMENTS = {"estimated": days.ESTIMATION_ERROR, "exact": 0.0, "none": None}
"""Keyword -> greatest relative error of what patients announce; None: they announce nothing."""
LEAST_READING, GREATEST_READING = 40.0, 400.0
"""Of the sensor, mg/dL."""
TREND_STEPS = 3
LONGEST_PAUSE = 360.0
"""Greatest number of minutes since a meal that an observation tells."""
ON_BOARD_MINUTES = 55.0
"""Of the two compartments by which insulin on board is counted: tI of Hovorka et al. (2004)."""
GREATEST_ON_BOARD = 60.0
"""Bound of insulin on board, U: 20 U at once in every hour add up to 48."""
GREATEST_MEAL = 200.0
"""Bound of what is announced, g: 172 is the most that can be."""
MAX_MEMORY, MAX_DAYS = 24, 366

_KEPT_SHARE = math.exp(-days.STEP_MINUTES / ON_BOARD_MINUTES)
_MOVED_SHARE = days.STEP_MINUTES / ON_BOARD_MINUTES
_HOURS = 2.0 * math.pi * np.arange(days.STEPS_PER_DAY) / days.STEPS_PER_DAY
_SINE, _COSINE = np.sin(_HOURS), np.cos(_HOURS)


class GlucoseWorld(HeterogeneousWorld):
    """E patients, each with sensor, pump and meals."""

    metadata = {"render_modes": RENDER_MODES, "render_fps": 12}

    def __init__(
        self,
        population: DynamicsPopulation,
        n_envs: int = 1,
        *,
        announcement: str = "estimated",
        missed: float = 0.0,
        memory: int = 0,
        n_days: int = days.N_DAYS,
    ) -> None:
        """Make E copies, in which agent 0 lives.

        Args:
            population: agents with the parameters of `glucose_population`.
            n_envs: E.
            announcement: of meals: a name in `ANNOUNCEMENTS`.
            missed: share of the meals that are not announced.
            memory: hours of readings and doses in an observation.
            n_days: that are drawn at a reset.

        Raises:
            ValueError: a value is wrong, or an agent has no state of rest.
        """
        if announcement not in ANNOUNCEMENTS:
            names = ", ".join(ANNOUNCEMENTS)
            raise ValueError(f"announcement is {announcement!r}, expected one of {names}")
        is_number = isinstance(missed, int | float | np.integer | np.floating)
        if not is_number or isinstance(missed, bool) or not 0.0 <= missed <= 1.0:
            raise ValueError(f"missed is {missed!r}, expected a share of meals, 0 to 1")
        check_patients(population)
        self.population = population
        self.n_envs = check_n_envs(n_envs)
        self._error = ANNOUNCEMENTS[announcement]
        self._n_remembered = check_integer("memory", memory, 0, MAX_MEMORY) * days.STEPS_PER_HOUR
        self._missed = missed
        self._n_days = check_integer("days", n_days, 1, MAX_DAYS)
        self._n_steps = self._n_days * days.STEPS_PER_DAY
        n_meals, n_kept = self._n_days * len(days.MEALS), self._n_steps + 1
        self._n_kept = n_kept
        """Readings of an episode; a longer one overwrites its oldest."""
        low = [LEAST_READING, -24.0, 0.0, 0.0, 0.0, -1.0, -1.0]
        high = [GREATEST_READING, 24.0, GREATEST_ON_BOARD, GREATEST_MEAL, LONGEST_PAUSE, 1.0, 1.0]
        most = days.PULSE * days.PULSES_PER_HOUR
        for ends, reading, dose in ((low, LEAST_READING, 0.0), (high, GREATEST_READING, most)):
            ends += [reading] * self._n_remembered + [dose] * self._n_remembered
        bounds = np.array([low, high], dtype=np.float32)
        self.observation_space = spaces.Box(*bounds, dtype=np.float32)
        limits = np.array([MAX_BASAL, MAX_BOLUS], dtype=np.float32)
        self.action_space = spaces.Box(np.zeros_like(limits), limits, dtype=np.float32)

        self.agents = np.zeros(self.n_envs, dtype=np.int64)
        self._parameters = population.parameters[self.agents].T.copy()  # (17, E)
        # Rows are the last axis: what all of them need at a time stands together.
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "body": ((len(hovorka.STATES),), np.float64),
            "step": ((), np.int64),
            "undelivered": ((), np.float64),  # U that are less than a pulse
            "on_board": ((2,), np.float64),  # U in the two compartments
            "noise": ((n_kept,), np.float32),
            "meal_step": ((n_meals,), np.int64),
            "grams": ((n_meals,), np.float64),
            "estimates": ((n_meals,), np.float64),
            "readings": ((n_kept,), np.float32),  # mg/dL
            "glucose": ((n_kept,), np.float32),  # in plasma, mg/dL; for the picture
            "pulses": ((n_kept,), np.int16),
        }
        self._state = {
            name: np.zeros((*shape, self.n_envs), dtype) for name, (shape, dtype) in shapes.items()
        }

    def set_agents(self, rows: Rows, agents: Rows) -> None:
        """Let `agents` (B,) live in `rows` (B,)."""
        self.agents[rows] = agents
        self._parameters[:, rows] = self.population.parameters[agents].T

    def reset(self, rows: Rows, generators: Sequence[np.random.Generator]) -> None:
        """Begin at midnight, at rest at 5 to 8 mmol/L, with new meals and noise."""
        drawn = days.draw(generators, self._n_days, with_attention=self._missed > 0.0)
        parameters = self._parameters.take(rows, axis=1)
        model, weights = parameters[: len(hovorka.PARAMETERS)], parameters[15]
        span = hovorka.MAX_GLUCOSE - hovorka.MIN_GLUCOSE
        level = hovorka.MIN_GLUCOSE + span * drawn.uniform[:, 0]
        for name in ("step", "undelivered", "on_board", "readings", "glucose", "pulses"):
            self._state[name][..., rows] = 0
        self._state["body"][:, rows] = hovorka.steady_state(model, level)[0]
        meals = days.plan_meals(drawn.uniform[:, 1:], weights, self._error or 0.0)
        if drawn.attention.size:
            meals[2][drawn.attention < self._missed] = 0.0
        for name, values in zip(("meal_step", "grams", "estimates"), meals, strict=True):
            self._state[name][:, rows] = values.T
        self._state["noise"][:, rows] = days.sensor_noise(drawn.normal).T
        self._read(rows)

    def step(self, rows: Rows, actions: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Deliver insulin for 5 minutes, and let the patients of `rows` eat what they eat."""
        state, step = self._state, self._state["step"][rows]
        pulses = self._deliver(rows, step, np.asarray(actions, np.float64))
        eaten = self._at_this_meal(rows, step, state["grams"])
        parameters = self._parameters.take(rows, axis=1)
        state["body"][:, rows] = hovorka.advance(
            state["body"].take(rows, axis=1),
            parameters[: len(hovorka.PARAMETERS)],
            pulses.astype(np.float64) * (1000.0 * days.PULSE / days.STEP_MINUTES),
            eaten / days.STEP_MINUTES,
            days.STEP_MINUTES,
        )
        state["step"][rows] = step + 1
        glucose = self._read(rows)
        rewards = -risks.risk(glucose, parameters[16])
        return rewards, np.zeros(len(rows), dtype=np.bool_)

    def _deliver(self, rows: Rows, step: Rows, actions: NDArray[np.float64]) -> Rows:
        """What the pump makes of actions (B, 2): pulses (B,)."""
        state = self._state
        asked = actions[:, 0] / days.STEPS_PER_HOUR + actions[:, 1] + state["undelivered"][rows]
        # The bit more: four times 0.0125 U, as sums of binary numbers, are a pulse.
        pulses: Rows = np.floor(asked / days.PULSE + 1e-6).astype(np.int64)
        rest = np.maximum(asked - pulses * days.PULSE, 0.0)
        lags = np.arange(1, days.STEPS_PER_HOUR)[:, np.newaxis]
        recent = state["pulses"][(step - lags) % self._n_kept, rows].sum(axis=0, dtype=np.int64)
        allowed = days.PULSES_PER_HOUR - recent
        pulses = np.minimum(pulses, allowed)
        state["undelivered"][rows] = rest
        state["pulses"][step % self._n_kept, rows] = pulses
        first, second = state["on_board"].take(rows, axis=1)
        first = first + pulses * days.PULSE
        state["on_board"][1, rows] = (second + first * _MOVED_SHARE) * _KEPT_SHARE
        state["on_board"][0, rows] = first * _KEPT_SHARE
        return pulses

    def _at_this_meal(
        self, rows: Rows, step: Rows, amounts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Amounts (M, E) of the meals that begin now: (B,), 0 for those who have none."""
        now = self._state["meal_step"].take(rows, axis=1) == step % self._n_steps
        found = np.zeros(len(rows))
        meals, places = np.nonzero(now)
        found[places] = amounts[meals, rows[places]]
        return found

    def _read(self, rows: Rows) -> NDArray[np.float64]:
        """Note reading and glucose of now; give the glucose (B,), mg/dL."""
        state = self._state
        place = state["step"][rows] % self._n_kept
        sensed = hovorka.MGDL_PER_MMOLL * state["body"][10, rows] + state["noise"][place, rows]
        state["readings"][place, rows] = np.clip(sensed, LEAST_READING, GREATEST_READING)
        glucose = self.glucose(rows)
        state["glucose"][place, rows] = glucose
        return glucose

    def glucose(self, rows: Rows) -> NDArray[np.float64]:
        """Glucose in plasma, which no observation tells, mg/dL: (B,)."""
        model = self._parameters[: len(hovorka.PARAMETERS)].take(rows, axis=1)
        level = hovorka.glucose(self._state["body"].take(rows, axis=1), model)
        return np.asarray(hovorka.MGDL_PER_MMOLL * level)

    def measure(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        """Whether glucose is in, below or above the target range, 0 or 1, and Kovatchev's risk."""
        glucose = self.glucose(rows)
        below, above = glucose < risks.LOW, glucose > risks.HIGH
        return {
            "time_in_range": (~(below | above)).astype(np.float64),
            "time_below_range": below.astype(np.float64),
            "time_above_range": above.astype(np.float64),
            "unweighted_risk": risks.risk(glucose),
        }

    def observe(self, rows: Rows) -> NDArray[np.float32]:
        """What a controller sees, (B, 7 + 24 memory)."""
        state, step = self._state, self._state["step"][rows]

        def readings(lags: Rows) -> NDArray[np.float32]:
            """Of some steps before, (L, B); those before the episode are the first."""
            before = np.maximum(step - lags[:, np.newaxis], 0) % self._n_kept
            return np.asarray(state["readings"][before, rows])

        now, before = readings(np.array([0, TREND_STEPS])).astype(np.float64)
        announced, pause = np.zeros(len(rows)), np.full(len(rows), LONGEST_PAUSE)
        if self._error is not None:
            announced = self._at_this_meal(rows, step, state["estimates"])
            meals, time = state["meal_step"].take(rows, axis=1), step % self._n_steps
            told = (meals < time) & (state["estimates"].take(rows, axis=1) > 0.0)
            last = np.where(told, meals, -1).max(axis=0)
            since = np.where(last >= 0, time - last, self._n_steps)
            pause = np.minimum(since * float(days.STEP_MINUTES), LONGEST_PAUSE)
        hour = step % days.STEPS_PER_DAY
        short = (
            now,
            (now - before) / (TREND_STEPS * days.STEP_MINUTES),
            state["on_board"].take(rows, axis=1).sum(axis=0),
            *(announced, pause, _SINE[hour], _COSINE[hour]),
        )
        parts = [np.stack(short).astype(np.float32)]
        if self._n_remembered:
            lags = np.arange(self._n_remembered)[::-1]
            parts.append(readings(lags))
            pulses = state["pulses"][(step - lags[:, np.newaxis] - 1) % self._n_kept, rows]
            parts.append((pulses * days.PULSE).astype(np.float32))
        return np.ascontiguousarray(np.concatenate(parts).T)

    def get_state(self) -> State:
        """Copy "agent" (E,), "body" (E, 11), and what sensor, pump, meals and picture need."""
        own = {name: np.moveaxis(array, -1, 0).copy() for name, array in self._state.items()}
        return {"agent": self.agents.copy(), **own}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Restore what `get_state` gave.

        Raises:
            ValueError: an array is missing, unknown or has another shape, or there is no such
                agent.
        """
        self._set_agents_of_state(state, self.get_state())
        for name, array in self._state.items():
            array[:] = np.moveaxis(state[name], 0, -1)

    def render(self, row: int, mode: str) -> NDArray[np.uint8]:
        """Draw the episode of a row so far."""
        state = {name: array[..., row] for name, array in self._state.items()}
        n_steps = int(state["step"]) % self._n_kept
        eaten = (state["meal_step"] >= 0) & (state["meal_step"] < n_steps)
        return draw_trace(
            glucose=state["glucose"][: n_steps + 1],
            readings=state["readings"][: n_steps + 1],
            insulin=state["pulses"][:n_steps] * days.PULSE,
            meals={
                int(step): float(grams)
                for step, grams in zip(
                    state["meal_step"][eaten], state["grams"][eaten], strict=True
                )
            },
        )


_KEYWORDS = (
    "population_seed",
    "render_mode",
    "parameters",
    "announcement",
    "missed",
    "memory",
    "days",
)


class GlucoseEnv(HeterogeneousEnv):
    """The single form; see the module."""

    metadata = {"render_modes": RENDER_MODES}

    def __init__(
        self,
        *,
        population_seed: int = 0,
        parameters: ArrayLike | None = None,
        announcement: str = "estimated",
        missed: float = 0.0,
        memory: int = 0,
        days: int = days.N_DAYS,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        """Make one copy.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        check_keywords(unknown, _KEYWORDS)
        population = choose_population(glucose_population, population_seed, parameters)
        world = GlucoseWorld(
            population, announcement=announcement, missed=missed, memory=memory, n_days=days
        )
        super().__init__(world, render_mode=render_mode)


class GlucoseVectorEnv(HeterogeneousVectorEnv):
    """The vector form; see the module."""

    metadata = {"render_modes": RENDER_MODES, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        population_seed: int = 0,
        parameters: ArrayLike | None = None,
        announcement: str = "estimated",
        missed: float = 0.0,
        memory: int = 0,
        days: int = days.N_DAYS,
        render_mode: str | None = None,
        **unknown: Any,
    ) -> None:
        """Make `num_envs` copies.

        Raises:
            TypeError: an unknown keyword.
            ValueError: a value is out of range.
        """
        check_keywords(unknown, (*_KEYWORDS, "autoreset_mode", "max_episode_steps"))
        population = choose_population(glucose_population, population_seed, parameters)
        super().__init__(
            GlucoseWorld(
                *(population, num_envs),
                announcement=announcement,
                missed=missed,
                memory=memory,
                n_days=days,
            ),
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
        )
