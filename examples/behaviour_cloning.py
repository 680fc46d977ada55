"""Behaviour cloning on data of 500 agents, for a reader who knows only Minari.

    rmdp-bench datasets build rmdp/cartpole-het/pure-v0
    python examples/behaviour_cloning.py                            # needs torch

One network imitates whoever acted in the data, in all worlds alike, and is scored for each of
the agents that evaluation is on, in its own world: the mean return of 20 episodes, normalised so
that the random policy is 0 and the reference of the dataset is 1.
"""

from __future__ import annotations

import minari
import numpy as np
import torch
from torch import nn

dataset = minari.load_dataset("rmdp/cartpole-het/pure-v0")
episodes = list(dataset.iterate_episodes())
observations = torch.as_tensor(np.concatenate([e.observations[:-1] for e in episodes]))
actions = torch.as_tensor(np.concatenate([e.actions for e in episodes]))

generator = torch.Generator().manual_seed(0)
network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
for parameter in network.parameters():
    nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
for _ in range(1_000):
    batch = torch.randint(len(actions), (256,), generator=generator)
    loss = nn.functional.cross_entropy(network(observations[batch]), actions[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

env = dataset.recover_environment()
for agent in env.unwrapped.population.test_agents:
    returns = []
    for episode in range(20):
        observation, _ = env.reset(seed=2**31 + episode, options={"agent": agent})
        returns.append(0.0)
        ended = False
        while not ended:
            action = network(torch.as_tensor(observation)).argmax().item()
            observation, reward, terminated, truncated, _ = env.step(action)
            returns[-1] += reward
            ended = terminated or truncated
    scores = minari.get_normalized_score(dataset, np.array(returns))
    print(f"agent {agent}: return {np.mean(returns):6.1f}, normalised {scores.mean():.3f}")
