"""Draw the moving pictures of the site: for each environment, policies side by side.

    python -m scripts.draw_policies                 all pictures, into docs/figures/moving
    python -m scripts.draw_policies NAME ...        those of the names in `PICTURES`

The first panel has uniform actions, which is where training starts; the others have stored
policies: those of a row of the leaderboard, or the behaviour policies of the data sets. A panel
stands still when its episode has ended. Pictures are animated WebP. One whose policies are not
stored is left out, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import rmdp_bench
from baselines.heterogeneous.controllers import choose, make_grid, tune
from rmdp_bench.datasets.behaviour import load_behaviour_policies
from rmdp_bench.files import replacing
from rmdp_bench.solution import Policy
from rmdp_bench.tasks import OfflineTask, get_task, heterogeneous_task

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "figures" / "moving"
MOST_BYTES = 400_000
"""Of a picture, which stands on a page that should open at once."""
WIDTH, GAP, LABEL = 136, 4, 15
"""Pixels: of a panel, between panels, of the line of text above it."""
COLUMNS = 3
FRAMES = 40
MILLISECONDS = 100
QUALITY = 20
ROBOTS = {"width": 2 * WIDTH, "height": 2 * 102}
GROUND, INK = (250, 249, 247), (29, 33, 38)
Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One of the episodes side by side.

    Attributes:
        label: what stands above it.
        policy: that acts; None: uniform actions.
        options: of the reset.
    """

    label: str
    policy: Policy | None = None
    options: dict[str, Any] | None = None


@dataclass(frozen=True)
class Picture:
    """A moving picture.

    Attributes:
        name: of its file.
        env_ids: whose pages show it; the first is the one that is drawn.
        description: what is seen, for readers who cannot see it as well.
        panels: gives the episodes.
        every: of so many steps one is drawn.
        start: the first step that is drawn.
        size: `width` and `height` of a frame, for worlds that take them.
        width: of a panel, pixels.
        columns: of panels.
        top: share of a frame's height that is kept, from its top.
        milliseconds: that a frame stays.
    """

    name: str
    env_ids: tuple[str, ...]
    description: str
    panels: Callable[[], list[Panel]]
    every: int = 2
    start: int = 0
    size: Mapping[str, Any] = field(default_factory=dict)
    width: int = WIDTH
    columns: int = COLUMNS
    top: float = 1.0
    milliseconds: int = MILLISECONDS

    @property
    def path(self) -> Path:
        """Its file."""
        return FOLDER / f"{self.name}.webp"


def of_board(task: str, solver: str, unit: str) -> Callable[[], list[Panel]]:
    """Uniform actions and the policies of a stored row, of seed 0, with how many they serve."""

    def panels() -> list[Panel]:
        solution = rmdp_bench.load_policies(task, solver)
        served = solution.assignment.sum(axis=0)
        own = [
            Panel(f"policy {j}: {round(served[j])} {unit}", policy)
            for j, policy in enumerate(solution.policies)
        ]
        return [Panel("untrained"), *own]

    return panels


def of_agents(task_id: str, solver: str) -> Callable[[], list[Panel]]:
    """The scored agents of an offline task under the policies of a stored row."""

    def panels() -> list[Panel]:
        task = get_task(task_id)
        assert isinstance(task, OfflineTask)
        solution = rmdp_bench.load_policies(task_id, solver)
        own = [
            Panel(f"agent {agent}", solution.policies[int(row.argmax())], {"agent": agent})
            for agent, row in zip(task.eval_agents, solution.assignment, strict=True)
        ]
        return [Panel("untrained, agent 0", None, own[0].options), *own]

    return panels


def of_behaviour(env_id: str, agent: int) -> Callable[[], list[Panel]]:
    """One agent under each of the policies that collected the data."""

    def panels() -> list[Panel]:
        options = {"agent": agent}
        own = [
            Panel(f"behaviour policy {j}", policy, options)
            for j, policy in enumerate(load_behaviour_policies(env_id))
        ]
        return [Panel("untrained", None, options), *own]

    return panels


def of_clinic(env_id: str, n_controllers: int, agent: int) -> Callable[[], list[Panel]]:
    """One patient under the clinic's controllers that were tuned for the first twenty."""

    def panels() -> list[Panel]:
        task = heterogeneous_task(env_id, n_controllers, n_agents=20)
        _, solution = choose(tune(task, make_grid(5), n_episodes=1), n_controllers)
        options = {"agent": agent}
        served = solution.assignment.sum(axis=0)
        own = [
            Panel(f"controller {j}: {round(served[j])} patients", policy, options)
            for j, policy in enumerate(solution.policies)
        ]
        return [Panel("untrained", None, options), *own]

    return panels


def robot(name: str, task: str, words: str) -> Picture:
    """Of one of the velocity environments with a row."""
    return Picture(
        name,
        tuple(f"rmdp/{name}-n{n_agents}-v0" for n_agents in (100, 1000)),
        f"{words} without training, and under the five policies that `universal` found for 100 "
        "agents who want different speeds.",
        of_board(task, "universal", "agents"),
        every=3,
        start=120,
        size=ROBOTS,
    )


PICTURES: Sequence[Picture] = (
    robot("HalfCheetahVel", "HalfCheetahVel-n100-k5-v0", "The robot HalfCheetah"),
    robot("AntVel", "AntVel-n100-k5-v0", "The robot Ant"),
    robot("HopperVel", "HopperVel-n100-k5-v0", "The robot Hopper"),
    robot("Walker2dVel", "Walker2dVel-n100-k5-v0", "The robot Walker2d"),
    Picture(
        "AntVel2d",
        ("rmdp/AntVel2d-n100-v0",),
        "The robot Ant without training, and under the five policies that `em` found for 100 "
        "agents who want velocities in all directions.",
        of_board("AntVel2d-n100-k5-v0", "em", "agents"),
        every=3,
        start=120,
        size=ROBOTS,
    ),
    Picture(
        "ResourceGathering",
        ("rmdp/ResourceGathering-n25-v0",),
        "The gatherer with uniform actions, and on the tours of the five policies that `universal` "
        "found for the agents of 25 tiles.",
        of_board("ResourceGathering-n25-k5-v0", "universal", "agents"),
        every=1,
    ),
    Picture(
        "DeepSeaTreasure",
        ("rmdp/DeepSeaTreasure-n100-v0",),
        "The submarine with uniform actions, and under the three policies that `universal` found "
        "for 100 agents who weigh treasure against time: the more patient, the deeper.",
        of_board("DeepSeaTreasure-n100-k3-v0", "universal", "agents"),
        every=1,
        width=200,
        columns=2,
        milliseconds=200,
    ),
    Picture(
        "FruitTree",
        ("rmdp/FruitTree-n100-v0",),
        "The way through the tree to one of its 64 fruits with uniform actions, and under the five "
        "policies that `universal` found for 100 agents who weigh six nutrients.",
        of_board("FruitTree-n100-k5-v0", "universal", "agents"),
        every=1,
        width=600,
        columns=1,
        top=0.5,  # below are the nutrients of all fruits, in digits too small to read
        milliseconds=500,
    ),
    Picture(
        "Minecart",
        ("rmdp/Minecart-n100-v0",),
        "The cart with uniform actions, and under the five policies that `em` found for 100 "
        "agents who weigh two ores and fuel.",
        of_board("Minecart-n100-k5-v0", "em", "agents"),
    ),
    Picture(
        "CartPoleHet",
        ("rmdp/CartPoleHet-n500-v0",),
        "One agent with uniform actions, and the five test agents, whose carts and poles differ, "
        "under a policy that `cql` learned from random data.",
        of_agents("CartPoleHet-n500-random-v1", "cql"),
    ),
    Picture(
        "MountainCarHet",
        ("rmdp/MountainCarHet-n500-v0",),
        "One agent with uniform actions, and the five test agents, whose gravity differs, under a "
        "policy that `cql` learned from the data of trained policies.",
        of_agents("MountainCarHet-n500-pure-v1", "cql"),
    ),
    Picture(
        "HalfCheetahHet",
        ("rmdp/HalfCheetahHet-n500-v1", "rmdp/HalfCheetahHet-n500-v0"),
        "Test agent 4, whose masses and damping are the usual ones, without training and under the "
        "four behaviour policies that collected the data.",
        of_behaviour("rmdp/HalfCheetahHet-n500-v1", 4),
        start=40,
        size=ROBOTS,
    ),
    Picture(
        "Glucose",
        ("rmdp/Glucose-n100-v0",),
        "The glucose of patient 0 over a day with uniform actions, and under the three controllers "
        "that serve twenty patients best: what one patient needs is too much for another.",
        of_clinic("rmdp/Glucose-n100-v0", 3, 0),
        every=7,
    ),
)


def frames_of(panel: Panel, env: gym.Env[Any, Any], picture: Picture) -> list[Frame]:
    """The frames of an episode; its last one again when it has ended early."""
    observation, _ = env.reset(seed=0, options=panel.options)
    env.action_space.seed(0)
    if panel.policy is not None:
        panel.policy.reset(1)
    frames: list[Frame] = []
    for step in range(picture.start + FRAMES * picture.every):
        if step >= picture.start and (step - picture.start) % picture.every == 0:
            frames.append(np.asarray(env.render(), dtype=np.uint8))
        if panel.policy is None:
            action = env.action_space.sample()
        else:
            action = panel.policy.act(observation[None])[0]
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            frames.append(np.asarray(env.render(), dtype=np.uint8))
            break
    return frames[:FRAMES]


def draw(picture: Picture, panels: Sequence[Panel]) -> Path:
    """Play the episodes and write the picture.

    Raises:
        ValueError: it has more than `MOST_BYTES`.
    """
    env = gym.make(picture.env_ids[0], render_mode="rgb_array", **picture.size)
    try:
        films = [frames_of(panel, env, picture) for panel in panels]
    finally:
        env.close()
    n_frames = max(len(film) for film in films)
    pages = [
        lay_out(
            [film[min(number, len(film) - 1)] for film in films],
            [panel.label for panel in panels],
            picture,
        )
        for number in range(n_frames)
    ]
    picture.path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(picture.path) as file:
        pages[0].save(
            file,
            "WEBP",
            save_all=True,
            append_images=pages[1:],
            duration=[picture.milliseconds] * (n_frames - 1) + [1500],
            loop=0,
            quality=QUALITY,
            method=6,
        )
    if (size := picture.path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{picture.path} has {size} bytes, more than {MOST_BYTES}")
    return picture.path


def lay_out(frames: Sequence[Frame], labels: Sequence[str], picture: Picture) -> Image.Image:
    """One page of the film: panels in rows, each with its label above."""
    n_columns = min(picture.columns, len(frames))
    n_rows = -(-len(frames) // n_columns)
    frames = [frame[: round(picture.top * len(frame))] for frame in frames]
    width = picture.width
    height = round(width * frames[0].shape[0] / frames[0].shape[1])
    size = (n_columns * (width + GAP) - GAP, n_rows * (height + LABEL + GAP) - GAP)
    page = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(page)
    for place, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        x, y = (place % n_columns) * (width + GAP), (place // n_columns) * (height + LABEL + GAP)
        pen.text((x + 2, y + 2), label, fill=INK)
        small = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
        page.paste(small, (x, y + LABEL))
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures that are asked for."""
    known = {picture.name: picture for picture in PICTURES}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*known, []], help="default: all of them")
    code = 0
    for name in parser.parse_args(arguments).names or known:
        try:
            panels = known[name].panels()
        except ValueError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            code = 1
            continue
        path = draw(known[name], panels)
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
