"""Training of factored models: all members of all seeds as one batch.

On a CPU, models of one hidden layer and discrete actions are trained by the compiled loops of
`kernels`, a member on a core; everything else by autograd. The same seed repeats bit for bit on one
machine; in the compiled loops whichever members are trained with it. A GPU replays a recorded step
and sums gradients in no fixed order: there a step repeats to rounding, which after many steps is
another course of the same process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from baselines.common import streams
from baselines.offline.common.data import LoggedData
from baselines.offline.common.networks import member_generators, member_keys
from baselines.offline.common.optimization import TorchAdam
from baselines.offline.common.training import MemberLearner
from baselines.offline.persim import kernels
from baselines.offline.persim.model import FactoredConfig, FactoredModel
from rmdp_bench.cores import usable_cores

import_module("scipy.linalg.cython_blas")  # numba's BLAS: loaded now, so that its threads are found

EPOCHS_PER_REPORT = 5


class FactoredLearner(MemberLearner):
    """Adam on the mean squared error of all members of R seeds' ensembles.

    Attributes:
        model: M = R n_models members, seed by seed.
        losses: (M,) float64, mean squared error over the last pass.
    """

    def __init__(
        self,
        config: FactoredConfig,
        data: LoggedData,
        n_actions: int | None,
        seeds: Sequence[int],
        device: str,
    ) -> None:
        """Draw every member's parameters; each has random numbers of its own."""
        self.config, self.n_seeds, self.device = config, len(seeds), device
        self._keys = member_keys(seeds, config.n_models)
        generators = member_generators(self._keys, streams.PerSim.INITIAL_PARAMETERS)
        self.model = FactoredModel(config, data, n_actions, generators).place(device)
        data = data.to(device)
        with torch.no_grad():
            self._inputs = self.model.normalize(data.observations).contiguous()
            self._targets = self.model.normalize_changes(data).contiguous()
        self._agents, self._actions = data.agents, data.actions
        self._total = torch.zeros(len(self._keys), device=device)
        self._graph: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        self._is_cuda = device != "cpu"
        # A tensor, so that a recorded step reads it. A GPU's Adam takes single precision only; a
        # CPU's gives the bits that a Python float gives in double precision.
        kind = torch.float32 if self._is_cuda else torch.float64
        self._rate = torch.tensor(config.learning_rate, device=device, dtype=kind)
        self._optimizer = torch.optim.Adam(
            self.model.parameters(), self._rate, fused=True, capturable=self._is_cuda
        )
        self.parts = {"model": TorchAdam(self.model, self._optimizer, device)}
        self.total = config.n_epochs * self.steps_per_epoch
        self.losses = torch.full((len(self._keys),), torch.nan, dtype=torch.float64, device=device)
        self.is_compiled = (
            config.compiled
            and device == "cpu"
            and n_actions is not None
            and len(config.state_layers) == 1
            and not config.action_layers
        )

    @property
    def steps_per_epoch(self) -> int:
        """Gradient steps of one pass; the last may be on fewer transitions."""
        return math.ceil(len(self._inputs) / self.config.batch_size)

    @property
    def epoch(self) -> int:
        """Passes made."""
        return self.done // self.steps_per_epoch

    def advance(self) -> dict[str, Tensor]:
        """Make the next passes, of the last of which losses are reported."""
        self.run(min(EPOCHS_PER_REPORT, self.config.n_epochs - self.epoch))
        return {"loss": self.losses}

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's moments and the losses."""
        return super().tensors() | {"losses": self.losses}

    def run(self, n_epochs: int) -> None:
        """Make so many passes over the data."""
        if self.is_compiled:
            self._run_compiled(n_epochs)
            return
        for _ in range(n_epochs):
            self._run_epoch()

    def _learning_rate(self, epoch: int) -> float:
        return self.config.learning_rate * 0.5 ** (epoch // self.config.halving_epochs)

    def _order(self, member: int, epoch: int) -> npt.NDArray[np.int64]:
        """A pass of one member: its own order of all rows, drawn anew, so that none is stored."""
        seed, own = self._keys[member]
        rng = np.random.default_rng([seed, streams.PerSim.MINIBATCHES, own, epoch])
        return rng.permutation(len(self._inputs))

    def _run_epoch(self) -> None:
        n_members = self.model.n_members
        orders = np.stack([self._order(member, self.epoch) for member in range(n_members)])
        order = torch.from_numpy(orders).to(self.device)
        self._rate.fill_(self._learning_rate(self.epoch))
        self._total.zero_()
        batches = order.split(self.config.batch_size, dim=1)
        if self._is_cuda:
            self._replay(batches)
        else:
            for rows in batches:
                self._step(rows)
        self.losses = (self._total / order.shape[1]).double()
        self.done += self.steps_per_epoch

    def _step(self, rows: Tensor) -> None:
        """Make a gradient step of all members, each on rows (M, B) of its own."""
        self._optimizer.zero_grad(set_to_none=False)
        guess = self.model(self._inputs[rows], self._agents[rows], self._actions[rows])
        squares = (guess - self._targets[rows]).square().mean((1, 2))
        squares.sum().backward()
        self._optimizer.step()
        self._total += squares.detach() * rows.shape[1]

    def _replay(self, batches: Sequence[Tensor]) -> None:
        """Steps on a GPU, where starting a step's kernels one by one costs more than they do.

        They are recorded once, after steps outside the graph, which allocate what lasts; a smaller
        last mini-batch stays outside.
        """
        if self._graph is None:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for rows in batches:
                    self._step(rows)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph(), batches[0].clone()
            with torch.cuda.graph(self._graph[0]):
                self._step(self._graph[1])
            return
        graph, static_rows = self._graph
        for rows in batches:
            if rows.shape == static_rows.shape:
                static_rows.copy_(rows)
                graph.replay()
            else:
                self._step(rows)

    def _run_compiled(self, n_epochs: int) -> None:
        """Members on threads: one's epochs follow each other, in turn with the others'."""
        config, arrays = self.config, self.get_rows()
        inputs, targets = self._inputs.numpy(), self._targets.numpy()
        agents, actions = self._agents.numpy(), self._actions.numpy()
        losses = np.empty((self.model.n_members, 1), np.float32)

        def work(member: int, epoch: int, before: Future[None] | None) -> None:
            if before is not None:
                before.result()
            kernels.train_epoch(
                arrays["parameters"][member],
                arrays["first"][member],
                arrays["second"][member],
                self.model.agent_network.sizes[0],
                self.model.n_actions or 0,
                config.state_layers[0],
                config.rank,
                inputs,
                agents,
                actions,
                targets,
                self._order(member, epoch),
                config.batch_size,
                epoch * self.steps_per_epoch,
                self._learning_rate(epoch),
                losses[member],
            )

        jobs: list[Future[None] | None] = [None] * self.model.n_members
        with (
            ThreadpoolController().limit(limits=1, user_api="blas"),
            ThreadPoolExecutor(
                usable_cores(), "training", torch.set_flush_denormal, (True,)
            ) as threads,
        ):
            for epoch in range(self.epoch, self.epoch + n_epochs):
                jobs = [threads.submit(work, m, epoch, job) for m, job in enumerate(jobs)]
            for job in jobs:
                if job is not None:
                    job.result()
        self.done += n_epochs * self.steps_per_epoch
        self.losses = torch.from_numpy(losses[:, 0]).double()
        self.set_rows(arrays)

    def get_rows(self) -> dict[str, npt.NDArray[np.float32]]:
        """Parameters and Adam's moments, "first" and "second": a row (P,) for each member."""
        return {
            name: torch.cat([own.flatten(1) for own in tensors], 1).cpu().numpy()
            for name, tensors in self._row_tensors().items()
        }

    def set_rows(self, arrays: dict[str, npt.NDArray[np.float32]]) -> None:
        """Restore what `get_rows` gave, at the current epoch."""
        for name, tensors in self._row_tensors().items():
            sizes = [tensor[0].numel() for tensor in tensors]
            parts = torch.from_numpy(arrays[name]).split(sizes, dim=1)
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))
        self.set_steps()

    def _row_tensors(self) -> dict[str, list[Tensor]]:
        """What rows are made of, in the order of the model's parameters."""
        parameters = list(self.model.parameters())
        states = [self._optimizer.state[parameter] for parameter in parameters]
        return {
            "parameters": [parameter.data for parameter in parameters],
            "first": [state["exp_avg"] for state in states],
            "second": [state["exp_avg_sq"] for state in states],
        }
