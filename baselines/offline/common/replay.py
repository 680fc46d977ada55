"""Mini-batches of logged transitions for M members, each from data of its own.

A member is one network of one seed: of all data, or of one agent. Its random numbers follow from
its key (seed, index), the purpose and the number of the update alone, so that a member trains the
same whoever is trained with it, and an interrupted run has no state of generators to restore.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.common import streams
from baselines.offline.common.data import LoggedData

MemberKey = tuple[int, int]
"""Seed of the run, and the member's index among that seed's."""

_SCALE_OFFSET = 1e-3
"""Added to the standard deviation of observations, which may be zero (TD3+BC's value)."""


class RandomBlocks:
    """Random numbers for each member and update, drawn for many updates at a time."""

    def __init__(
        self,
        keys: Sequence[MemberKey],
        purpose: int,
        block_length: int,
        draw: Callable[[int, torch.Generator], Tensor],
        device: str,
    ) -> None:
        """Sets up; nothing is drawn yet.

        Args:
            keys: of the M members.
            purpose: what the numbers are for, of `streams`.
            block_length: updates for which is drawn at once.
            draw: (member, generator) -> numbers (block_length, ...) on the device.
            device: of the generators; the numbers differ from device to device.
        """
        self.keys, self.purpose, self.block_length = tuple(keys), purpose, block_length
        self.draw, self.device = draw, device
        self._block: int | None = None
        self._values = torch.empty(0)

    def at(self, update: int) -> Tensor:
        """The numbers (M, ...) of an update."""
        block, row = divmod(update, self.block_length)
        if block != self._block:
            draws = [self.draw(m, self._generator(key, block)) for m, key in enumerate(self.keys)]
            self._values, self._block = torch.stack(draws, 1), block
        return self._values[row]

    def _generator(self, key: MemberKey, block: int) -> torch.Generator:
        sequence = np.random.SeedSequence([*key, self.purpose, block])
        state = int(sequence.generate_state(1, np.uint64)[0])
        return torch.Generator(self.device).manual_seed(state)


def normal_blocks(
    keys: Sequence[MemberKey], purpose: int, shape: tuple[int, ...], device: str
) -> RandomBlocks:
    """Standard normal numbers (M, *shape) for each update; arguments as in `RandomBlocks`."""
    block_length = max(1, 2**18 // int(np.prod(shape)))  # a MiB for each member

    def draw(member: int, generator: torch.Generator) -> Tensor:
        return torch.randn(block_length, *shape, generator=generator, device=device)

    return RandomBlocks(keys, purpose, block_length, draw, device)


@dataclass(frozen=True)
class Batch:
    """B transitions for each of M members.

    Attributes:
        observations: (M, B, d), normalised.
        actions: (M, B) int64 or (M, B, a).
        rewards: (M, B).
        next_observations: (M, B, d), normalised.
        continues: (M, B), 0 where the transition ended the episode, else 1: also where a time
            limit cut the trajectory, since the return goes on there.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    continues: Tensor


class Replay:
    """The data of M members, from which mini-batches are drawn uniformly with replacement.

    Attributes:
        keys: of the members.
        device: where the data are.
        observation_size: d.
        action_size: a; None where actions are discrete.
        mean: (M, d) subtracted from observations.
        scale: (M, d) multiplied with the difference.
    """

    def __init__(
        self,
        datasets: Sequence[LoggedData],
        keys: Sequence[MemberKey],
        batch_size: int,
        device: str,
        *,
        normalize: bool = True,
    ) -> None:
        """Copies the data to the device; what several members share, once.

        Args:
            datasets: one for each member, any number of them the same object.
            keys: of the members, all different.
            batch_size: B.
            device: "cpu" or "cuda".
            normalize: whether a member's observations are standardised by its own data's mean and
                standard deviation; otherwise they stay as they are.
        """
        first = datasets[0]
        self.keys, self.device = tuple(keys), device
        self.observation_size = first.observations.shape[1]
        self.action_size = first.actions.shape[1] if first.actions.ndim == 2 else None
        unique = {id(data): data for data in datasets}
        moments = {name: _moments(data, normalize) for name, data in unique.items()}
        self._table = torch.cat([_pack(data, *moments[name]) for name, data in unique.items()]).to(
            device
        )
        self.mean = torch.stack([moments[id(data)][0] for data in datasets])
        self.scale = torch.stack([moments[id(data)][1] for data in datasets])
        ends = np.cumsum([len(data.rewards) for data in unique.values()])
        ranges = {
            name: (int(end) - len(data.rewards), int(end))
            for (name, data), end in zip(unique.items(), ends, strict=True)
        }
        self._ranges = [ranges[id(data)] for data in datasets]
        block_length = 512

        def draw(member: int, generator: torch.Generator) -> Tensor:
            shape = (block_length, batch_size)
            return torch.randint(*self._ranges[member], shape, generator=generator, device=device)

        self._rows = RandomBlocks(keys, streams.Replay.MINIBATCHES, block_length, draw, device)

    def batch(self, update: int) -> Batch:
        """The mini-batch of an update, numbered from 0."""
        rows = self._rows.at(update)
        d, a = self.observation_size, self.action_size or 1
        values = self._table.index_select(0, rows.flatten()).view(*rows.shape, 2 * d + a + 2)
        before, actions, after, rest = values.split((d, a, d, 2), -1)
        if self.action_size is None:
            actions = actions.squeeze(-1).long()
        return Batch(before, actions, rest[..., 0], after, rest[..., 1])


def _moments(data: LoggedData, normalize: bool) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation (d,) of the observations."""
    if not normalize:
        size = data.observations.shape[1]
        return torch.zeros(size), torch.ones(size)
    values = data.observations.double()
    scale = 1 / (values.std(0, correction=0) + _SCALE_OFFSET)
    return values.mean(0).float(), scale.float()


def _pack(data: LoggedData, mean: Tensor, scale: Tensor) -> Tensor:
    """All columns in one table (N, 2d + a + 2), so that a mini-batch is one selection of rows."""
    columns = [
        (data.observations - mean) * scale,
        data.actions.float().reshape(len(data.rewards), -1),
        (data.next_observations - mean) * scale,
        data.rewards.unsqueeze(1),
        (~data.terminated).float().unsqueeze(1),
    ]
    return torch.cat(columns, 1)
