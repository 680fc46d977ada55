"""Training of CaDM's networks, all members of all seeds as one batch.

A row of a batch is a transition and a context that must explain it: made from the history before
that step or before one of the M - 1 steps before it. As in the official code, predictions start
from true observations, never from predicted ones.

Departures from the official code, whose rows are all pairs of a step and one of the M that follow
it, in shuffled epochs: the transition is drawn with replacement, all alike, and then the context,
alike among those of its trajectory. No data are held out to stop early.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from baselines.common import streams
from baselines.offline.cadm.model import ContextConfig, ContextModel
from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import member_generators, member_keys
from baselines.offline.common.optimization import TorchAdam
from baselines.offline.common.training import MemberLearner

UPDATES_BETWEEN_REPORTS = 20


class Histories:
    """The last H pairs before every transition of logged data.

    Pairs lie agent after agent, each agent's after H rows of zeros, so that a history is H
    consecutive rows:

        0 ... 0  pair 0  pair 1 ... pair T-1  0 ... 0  pair 0 ...
        |-- H -| history of transition 0
           |-- H -----| history of transition 1
    """

    def __init__(self, model: ContextModel, data: LoggedData) -> None:
        """Lay the pairs out; `data` and the model are on the same device."""
        length = model.history_length
        n, device = len(data.observations), data.observations.device
        pairs = model.pairs(data.observations, data.actions, data.next_observations)
        self.firsts = torch.arange(n, device=device) + length * data.agents
        self.positions = torch.arange(n, device=device) - data.starts[data.agents]
        self._pairs = pairs.new_zeros(n + length * data.n_agents, pairs.shape[1])
        self._pairs[self.firsts + length] = pairs
        self._rows = torch.arange(length, device=device)

    def before(self, transitions: Tensor) -> Tensor:
        """Histories (..., H, d + a) of transitions (...), given by their rows in the data."""
        return self._pairs[self.firsts[transitions].unsqueeze(-1) + self._rows]


class ContextLearner(MemberLearner):
    """The networks of R seeds, each an ensemble of E members, in training."""

    def __init__(
        self,
        model: ContextModel,
        data: LoggedData,
        config: ContextConfig,
        seeds: Sequence[int],
        ensemble_size: int,
    ) -> None:
        """Draw each member's bootstrap sample; an ensemble of one has the data themselves."""
        self.model, self.data, self.config = model, data, config
        self.histories = Histories(model, data)
        self.n_seeds, self.total = len(seeds), config.n_updates
        keys, n = member_keys(seeds, ensemble_size), len(data.observations)
        self._samples = torch.arange(n, dtype=torch.int32).expand(len(keys), n)
        if ensemble_size > 1:
            generators = member_generators(keys, streams.CaDM.BOOTSTRAP)
            drawn = [torch.randint(n, (n,), generator=g, dtype=torch.int32) for g in generators]
            self._samples = torch.stack(drawn)
        self._samples = self._samples.to(data.observations.device)
        self.generators = {"minibatches": member_generators(keys, streams.CaDM.MINIBATCHES)}
        self._adam = _make_adam(model, config)
        # The number of steps is on the CPU, where Adam reads it.
        self.parts = {"model": TorchAdam(model, self._adam, "cpu")}

    def _draw(self, n_batches: int) -> tuple[Tensor, Tensor]:
        """Transitions (n_batches, K, B), and those before which their histories end."""
        device, size = self.data.observations.device, (n_batches, self.config.batch_size)
        # Each member's numbers are its own: they do not depend on who is trained beside it.
        generators = self.generators["minibatches"]
        uniform = torch.stack(
            [torch.rand(2, *size, generator=g, dtype=torch.float64) for g in generators], 2
        ).to(device)
        picked = (uniform[0] * self._samples.shape[1]).long()  # (n_batches, K, B)
        members = torch.arange(len(self._samples), device=device)[:, None]
        transitions = self._samples[members, picked].long()
        steps = (self.histories.positions[transitions] + 1).clamp_max(self.config.future_length)
        return transitions, transitions - (uniform[1] * steps).long()

    def advance(self) -> dict[str, Tensor]:
        """Make the updates up to the next report, of the last one's losses."""
        n_updates = min(UPDATES_BETWEEN_REPORTS, self.total - self.done)
        data, config = self.data, self.config
        transitions, origins = self._draw(n_updates)
        for rows, history_rows in zip(transitions, origins, strict=True):
            progress = self.done / config.n_updates
            factor = (config.final_learning_rate / config.learning_rate) ** progress
            for group in self._adam.param_groups:
                group["lr"] = config.learning_rate * factor
            forward, backward = self.model.losses(
                self.histories.before(history_rows),
                data.observations[rows],
                data.actions[rows],
                data.next_observations[rows],
            )
            self._adam.zero_grad()
            loss = (forward + config.backward_coefficient * backward).sum()
            torch.autograd.backward(loss)
            self._adam.step()
            self.done += 1
        return {"loss": forward, "backward_loss": backward}


def _make_adam(model: ContextModel, config: ContextConfig) -> torch.optim.Adam:
    """Adam with each layer's penalty."""
    decay_of = {
        weight: decay
        for network, decays in (
            (model.encoder, config.encoder_weight_decays),
            (model.forward_model, config.weight_decays),
            (model.backward_model, config.weight_decays),
        )
        for weight, decay in zip(network.weights, decays, strict=True)
    }
    groups: dict[float, list[Tensor]] = {}
    for parameter in model.parameters():
        groups.setdefault(decay_of.get(parameter, 0.0), []).append(parameter)
    # Not fused: that rounds the last few numbers of a tensor otherwise, so that a member's would
    # depend on how many members there are.
    return torch.optim.Adam(
        [{"params": group, "weight_decay": decay} for decay, group in groups.items()],
        lr=config.learning_rate,
        foreach=True,
    )
