"""Mini-batches of logged transitions for M members, each from data of its own.

A member is one network of one seed: of all data, or of one agent. Its random numbers follow from
its key (seed, index), the purpose and the number of the update alone, so that a member trains the
same whoever is trained with it, and an interrupted run has no state of generators to restore.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.common import streams
from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import MemberKey

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
        """Set up; nothing is drawn yet.

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
class LoggedBatch:
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


@dataclass(frozen=True)
class MemberRows:
    """The data of M members: each has consecutive rows of one `LoggedData`.

    Attributes:
        data: N rows.
        ranges: first row and number of rows of each member.
    """

    data: LoggedData
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of_all(cls, data: LoggedData, n_members: int) -> MemberRows:
        """Everybody's rows for each member."""
        return cls(data, ((0, len(data.rewards)),) * n_members)

    @classmethod
    def of_agents(cls, data: LoggedData, agents: Sequence[int]) -> MemberRows:
        """One agent's trajectory for each member."""
        starts = data.starts.tolist()
        return cls(data, tuple((starts[i], starts[i + 1] - starts[i]) for i in agents))

    def to(self, device: str) -> MemberRows:
        """The same on a device."""
        return MemberRows(self.data.to(device), self.ranges)

    def of_member(self, m: int) -> slice:
        """A member's rows."""
        first, count = self.ranges[m]
        return slice(first, first + count)

    @functools.cached_property
    def initial(self) -> Tensor:
        """(M, S) int64, the rows at which each member's S trajectories begin."""
        starts = self.data.starts
        own = [starts[(starts >= f) & (starts < f + count)] for f, count in self.ranges]
        return torch.stack(own)

    def draw(self, n_rows: int, generators: Sequence[torch.Generator]) -> Tensor:
        """(len(generators), n_rows) rows with replacement.

        Args:
            n_rows: of each.
            generators: of the CPU, a multiple of M: the first ones are the first member's.
        """
        times = len(generators) // len(self.ranges)
        owners = [own for own in self.ranges for _ in range(times)]
        drawn = [
            first + torch.randint(count, (n_rows,), generator=generator)
            for (first, count), generator in zip(owners, generators, strict=True)
        ]
        return torch.stack(drawn).to(self.data.observations.device)

    def blocks(self, size: int) -> list[Tensor]:
        """Rows (M, at most `size`) of all data, in order; a member with fewer repeats its last."""
        first, count = torch.tensor(self.ranges, device=self.data.observations.device).mT
        steps = torch.arange(int(count.max()), device=first.device)
        return [
            torch.minimum(first[:, None] + own, (first + count - 1)[:, None])
            for own in steps.split(size)
        ]


class Replay:
    """Mini-batches of the data of M members, drawn uniformly with replacement.

    Attributes:
        keys: of the members.
        device: where the data are.
        observation_size: d.
        action_size: a; None where actions are discrete.
        mean: (M, d) subtracted from observations.
        inverse_scale: (M, d) multiplied with the difference.
    """

    def __init__(
        self,
        rows: MemberRows,
        keys: Sequence[MemberKey],
        batch_size: int,
        device: str,
        *,
        normalize: bool = True,
    ) -> None:
        """Copy the data to the device; what several members share, once.

        Args:
            rows: of the members, on the CPU.
            keys: of the members, all different.
            batch_size: B.
            device: "cpu" or "cuda".
            normalize: whether a member's observations are standardised by its own data's mean and
                standard deviation; otherwise they stay as they are.
        """
        data = rows.data
        self.keys, self.device = tuple(keys), device
        self.observation_size = data.observations.shape[1]
        self.action_size = data.actions.shape[1] if data.actions.ndim == 2 else None
        moments, tables, bounds, end = {}, [], {}, 0
        for own in dict.fromkeys(rows.ranges):
            part = slice(own[0], own[0] + own[1])
            moments[own] = _moments(data.observations[part], normalize)
            tables.append(_pack(data, part, *moments[own]))
            bounds[own] = end, end + own[1]
            end += own[1]
        self._table = torch.cat(tables).to(device)
        self.mean = torch.stack([moments[own][0] for own in rows.ranges])
        self.inverse_scale = torch.stack([moments[own][1] for own in rows.ranges])
        block_length = 512

        def draw(member: int, generator: torch.Generator) -> Tensor:
            limits, shape = bounds[rows.ranges[member]], (block_length, batch_size)
            return torch.randint(*limits, shape, generator=generator, device=device)

        self._rows = RandomBlocks(keys, streams.Replay.MINIBATCHES, block_length, draw, device)

    def batch(self, update: int) -> LoggedBatch:
        """The mini-batch of an update, numbered from 0."""
        rows = self._rows.at(update)
        d, a = self.observation_size, self.action_size or 1
        values = self._table.index_select(0, rows.flatten()).view(*rows.shape, 2 * d + a + 2)
        before, actions, after, rest = values.split((d, a, d, 2), -1)
        if self.action_size is None:
            actions = actions.squeeze(-1).long()
        return LoggedBatch(before, actions, rest[..., 0], after, rest[..., 1])


def _moments(observations: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation (d,) of observations (N, d)."""
    if not normalize:
        size = observations.shape[1]
        return torch.zeros(size), torch.ones(size)
    values = observations.double()
    inverse_scale = 1 / (values.std(0, correction=0) + _SCALE_OFFSET)
    return values.mean(0).float(), inverse_scale.float()


def _pack(data: LoggedData, rows: slice, mean: Tensor, inverse_scale: Tensor) -> Tensor:
    """All columns in one table (N, 2d + a + 2), so that a mini-batch is one selection of rows."""
    columns = [
        (data.observations[rows] - mean) * inverse_scale,
        data.actions[rows].float().reshape(rows.stop - rows.start, -1),
        (data.next_observations[rows] - mean) * inverse_scale,
        data.rewards[rows].unsqueeze(1),
        (~data.terminated[rows]).float().unsqueeze(1),
    ]
    return torch.cat(columns, 1)
