from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rmdp_bench  # registers the environments
from rmdp_bench.envs.resource_gathering import (
    HOME,
    N_TILES,
    ResourceGatheringEnv,
    ResourceGatheringVectorEnv,
    ResourceGatheringWorld,
)

ENV_ID = "rmdp/ResourceGathering-n25-v0"
UP, DOWN, LEFT, RIGHT = range(4)

# A shortest closed walk over all 25 tiles: an odd grid needs one tile twice, 26 steps.
FULL_TOUR = [
    *(RIGHT, RIGHT, UP, UP, UP, UP, LEFT, DOWN, DOWN, DOWN, LEFT, UP, UP, UP),
    *(LEFT, LEFT, DOWN, RIGHT, DOWN, LEFT, DOWN, RIGHT, LEFT, DOWN, RIGHT, RIGHT),
]


def play(actions: list[int], **kwargs: Any) -> tuple[float, dict[str, Any], bool, bool, int]:
    """Returns the return, the last info, terminated, truncated and the number of steps."""
    env = gym.make(ENV_ID, **kwargs)
    env.reset(seed=0)
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(actions[len(rewards)])
        rewards.append(float(reward))
    return sum(rewards), info, terminated, truncated, len(rewards)


def test_a_tour_of_every_tile_is_worth_74() -> None:
    total, info, terminated, _, n_steps = play(FULL_TOUR)
    assert terminated and n_steps == 26
    assert total == pytest.approx(74.0)
    np.testing.assert_array_equal(info["outcome"], np.full(N_TILES, 74.0))
    np.testing.assert_array_equal(info["agent_rewards"], np.full(N_TILES, 74.0))


@pytest.mark.parametrize(
    ("actions", "tiles"),
    [
        ([DOWN], [HOME]),  # bumping into the wall below home ends the episode at once
        ([UP, DOWN], [HOME, HOME - 5]),
        ([LEFT, LEFT, LEFT, RIGHT, RIGHT], [HOME, HOME - 1, HOME - 2]),  # the wall costs a step
    ],
)
def test_home_tile_rule(actions: list[int], tiles: list[int]) -> None:
    total, info, terminated, truncated, n_steps = play(actions)
    assert terminated and not truncated and n_steps == len(actions)
    expected = np.zeros(N_TILES)
    expected[tiles] = 100.0 - len(actions)
    np.testing.assert_array_equal(info["outcome"], expected)
    assert total == pytest.approx(expected.mean())


def test_no_reward_without_coming_home() -> None:
    total, info, terminated, truncated, n_steps = play([UP] * 60)
    assert (total, terminated, truncated, n_steps) == (0.0, False, True, 40)
    assert not info["outcome"].any()


def test_coming_home_at_the_last_step_is_rewarded() -> None:
    actions = [UP] * 36 + [DOWN] * 4
    total, _, terminated, truncated, n_steps = play(actions)
    assert terminated and truncated and n_steps == 40
    assert total == pytest.approx(60.0 * 5 / 25)


def test_outcome_never_falls_below_its_bound_without_the_limit() -> None:
    actions = [UP] * 150 + [DOWN] * 4
    total, info, terminated, _, _ = play(actions, max_episode_steps=-1)
    assert terminated and total == 0.0 and (info["agent_rewards"] == 0.0).all()


def test_observation_holds_place_and_visited_tiles() -> None:
    env = gym.make(ENV_ID)
    observation, _ = env.reset(seed=0)
    expected = np.zeros(27, dtype=np.float32)
    expected[:2] = 4, 2
    expected[2 + HOME] = 1.0
    np.testing.assert_array_equal(observation, expected)
    observation = env.step(LEFT)[0]
    expected[:2] = 4, 1
    expected[2 + HOME - 1] = 1.0
    np.testing.assert_array_equal(observation, expected)
    assert observation.dtype == np.float32 and observation in env.observation_space


def test_25_policies_reach_93_56_at_most() -> None:
    """The best each agent can get alone: breadth-first search over (tile, visited own tile)."""
    best = []
    for goal in range(N_TILES):
        frontier, seen, steps = {(HOME, goal == HOME)}, set[tuple[int, bool]](), 0
        while True:
            steps += 1
            states = sorted(frontier)
            world = ResourceGatheringWorld(4 * len(states))
            tiles = np.repeat([tile for tile, _ in states], 4)
            visited = np.zeros((len(tiles), N_TILES), dtype=bool)
            visited[:, goal] = np.repeat([own for _, own in states], 4)
            world.set_state({"tile": tiles, "steps": np.full(len(tiles), 0), "visited": visited})
            rows = np.arange(len(tiles))
            outcomes, terminated = world.step(rows, np.tile(np.arange(4), len(states)))
            if outcomes[terminated, goal].any():
                best.append(100.0 - steps)
                break
            state = world.get_state()
            frontier = {
                (int(state["tile"][row]), bool(state["visited"][row, goal]))
                for row in rows[~terminated]
            } - seen
            seen |= frontier
    assert np.mean(best) == pytest.approx(93.56)


def test_rows_do_not_influence_each_other() -> None:
    rng = np.random.default_rng(0)
    together = ResourceGatheringWorld(7)
    apart = [ResourceGatheringWorld(1) for _ in range(7)]
    for _ in range(300):
        rows = np.flatnonzero(rng.random(7) < 0.7)
        actions = rng.integers(4, size=len(rows))
        outcomes, terminated = together.step(rows, actions)
        for b, row in enumerate(rows):
            alone = apart[row].step(np.zeros(1, dtype=np.int64), actions[b : b + 1])
            np.testing.assert_array_equal(alone[0][0], outcomes[b])
            assert alone[1][0] == terminated[b]
            np.testing.assert_array_equal(
                apart[row].observe(np.zeros(1, dtype=np.int64))[0],
                together.observe(rows)[b],
            )
            if terminated[b]:
                together.reset(rows[b : b + 1], ())
                apart[row].reset(np.zeros(1, dtype=np.int64), ())


def test_state_restores_and_is_a_copy() -> None:
    rng = np.random.default_rng(0)
    envs = ResourceGatheringVectorEnv(5, max_episode_steps=40)
    envs.reset(seed=0)
    for _ in range(17):
        envs.step(rng.integers(4, size=5))
    state = envs.get_state()
    actions = rng.integers(4, size=(60, 5))
    first = [envs.step(action) for action in actions]
    other = ResourceGatheringVectorEnv(5, max_episode_steps=40)
    other.set_state(state)
    for action, (observations, rewards, terminations, truncations, _) in zip(
        actions, first, strict=True
    ):
        again = other.step(action)
        np.testing.assert_array_equal(again[0], observations)
        np.testing.assert_array_equal(again[1], rewards)
        np.testing.assert_array_equal(again[2], terminations)
        np.testing.assert_array_equal(again[3], truncations)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tile", np.array([25])), ("tile", np.zeros(2)), ("visited", np.zeros((1, 24)))],
)
def test_bad_state_is_refused(name: str, value: Any) -> None:
    world = ResourceGatheringWorld()
    state = world.get_state()
    with pytest.raises(ValueError, match="state"):
        world.set_state({**state, name: value})
    with pytest.raises(ValueError, match="state"):
        world.set_state({key: array for key, array in state.items() if key != name})


@pytest.mark.parametrize(
    "kwargs",
    [
        {"population_seed": -1},
        {"population_seed": "0"},
        {"render_mode": "svg"},
    ],
)
def test_bad_arguments_are_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(kwargs)))):
        ResourceGatheringEnv(**kwargs)
    with pytest.raises(ValueError, match=str(next(iter(kwargs)))):
        ResourceGatheringVectorEnv(2, **kwargs)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="grid_size"):
        ResourceGatheringEnv(grid_size=5)
    with pytest.raises(TypeError, match="grid_size"):
        ResourceGatheringVectorEnv(2, grid_size=5)


@pytest.mark.parametrize("action", [4, -1, 0.0, np.nan, [0, 1], "up", None])
def test_bad_actions_are_refused(action: Any) -> None:
    env = ResourceGatheringEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(action)


def test_ansi_shows_gatherer_home_and_visited_tiles() -> None:
    env = gym.make(ENV_ID, render_mode="ansi")
    env.reset(seed=0)
    env.step(UP)
    env.step(LEFT)
    assert env.render() == (
        " .  .  .  .  . \n"
        " .  .  .  .  . \n"
        " .  .  .  .  . \n"
        " . [o] o  .  . \n"
        " .  .  H  .  . \n"
        "step 2, 3 of 25 tiles visited\n"
    )


def test_picture_shows_where_the_gatherer_is() -> None:
    env = gym.make(ENV_ID, render_mode="rgb_array")
    env.reset(seed=0)
    before: Any = env.render()
    env.step(UP)
    after: Any = env.render()
    assert before.shape == after.shape == (320, 320, 3) and before.dtype == np.uint8
    changed = np.argwhere((before != after).any(axis=-1)) // 64
    assert {tuple(place) for place in changed.tolist()} == {(4, 2), (3, 2)}
    assert (after[3 * 64 + 32, 2 * 64 + 32] != after[4 * 64 + 32, 2 * 64 + 32]).any()


def test_human_prints_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    env = gym.make(ENV_ID, render_mode="human")
    env.reset(seed=0)
    env.step(UP)
    printed = capsys.readouterr().out
    assert "step 0, 1 of 25" in printed and "step 1, 2 of 25" in printed


def test_population_is_the_registered_one() -> None:
    env: Any = gym.make(ENV_ID).unwrapped
    assert env.population == rmdp_bench.get_population(ENV_ID)
