"""The trace of an episode: glucose against the target range, meals, insulin; a picture people know.

matplotlib is loaded when the first frame is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmdp_bench.envs.glucose import days, risk

WIDTH, HEIGHT = 800, 400
"""Of a frame, pixels."""
_DPI = 100


def draw_trace(
    *,
    glucose: NDArray[np.float32],
    readings: NDArray[np.float32],
    insulin: NDArray[np.float64],
    meals: Mapping[int, float],
) -> NDArray[np.uint8]:
    """Draw T steps.

    Args:
        glucose: (T + 1,) in plasma, mg/dL.
        readings: (T + 1,) of the sensor, mg/dL.
        insulin: (T,) delivered in each step, U.
        meals: step -> carbohydrates, g.

    Returns:
        (HEIGHT, WIDTH, 3).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    hours = np.arange(len(glucose)) / days.STEPS_PER_HOUR
    above.axhspan(risk.LOW, risk.HIGH, color="tab:green", alpha=0.15, linewidth=0)
    above.plot(hours, readings, ".", color="0.6", markersize=2, label="sensor")
    above.plot(hours, glucose, color="tab:blue", label="plasma")
    for step, grams in meals.items():
        above.annotate(
            f"{grams:.0f} g",
            (step / days.STEPS_PER_HOUR, 380.0),
            ha="center",
            va="top",
            fontsize="x-small",
            color="tab:brown",
        )
        above.axvline(step / days.STEPS_PER_HOUR, color="tab:brown", alpha=0.3, linewidth=1)
    above.set(ylabel="glucose, mg/dL", ylim=(0, 400), yticks=(0, risk.LOW, risk.HIGH, 300, 400))
    above.legend(loc="upper right", fontsize="x-small")
    below.step(hours, [*insulin, 0.0], where="post", color="tab:purple")
    below.set(ylabel="insulin,\nU in 5 min", ylim=(0, None), xlabel="hour")
    below.set(xlim=(0, 24 * days.N_DAYS), xticks=range(0, 24 * days.N_DAYS + 1, 6))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
