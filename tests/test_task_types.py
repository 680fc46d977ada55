"""A task is of one of two types; documents and processes see no difference."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

import rmdp_bench
from rmdp_bench import OfflineTask, OnlineTask, Task, get_offline_task, get_online_task

ONLINE = get_online_task("ResourceGathering-n25-k2-v0")
OFFLINE = get_offline_task("CartPoleHet-n500-pure-v1")
BOTH = pytest.mark.parametrize("task", [ONLINE, OFFLINE], ids=["online", "offline"])


@BOTH
def test_copies_are_of_the_same_type(task: Task) -> None:
    sent = pickle.loads(pickle.dumps(task))
    changed = dataclasses.replace(task, n_eval_episodes=3)
    assert isinstance(task, Task)
    assert type(sent) is type(changed) is type(task)
    assert sent == task != changed
    assert hash(sent) == hash(task)


def test_documents_of_both_have_the_same_keys_in_the_same_order() -> None:
    online, offline = ONLINE.to_dict(), OFFLINE.to_dict()
    assert list(online) == list(offline)
    fields = {field.name for field in dataclasses.fields(OFFLINE)}
    assert set(offline) == fields | {"track", "ceiling"}
    assert online["dataset_id"] is online["eval_agents"] is None
    assert online["heldout_agents"] == []
    assert offline["eval_agents"] == list(OFFLINE.eval_agents)
    assert offline["heldout_agents"] == list(OFFLINE.heldout_agents)


def test_what_one_track_has_the_other_has_not() -> None:
    assert [task.track for task in (ONLINE, OFFLINE)] == ["online", "offline"]
    for name in ("dataset_id", "eval_agents", "heldout_agents", "hidden_population"):
        assert hasattr(OFFLINE, name) and not hasattr(ONLINE, name)
    for name in ("population", "with_agents"):
        assert hasattr(ONLINE, name) and not hasattr(OFFLINE, name)


def test_the_other_track_is_refused() -> None:
    with pytest.raises(ValueError, match="pure-v1 is an offline task, expected an online one"):
        get_online_task(OFFLINE.id)
    with pytest.raises(ValueError, match="k2-v0 is an online task, expected an offline one"):
        get_offline_task(ONLINE.id)
    for get in (get_online_task, get_offline_task):
        with pytest.raises(ValueError, match="unknown task 'nothing'"):
            get("nothing")


def test_every_task_is_of_one_of_the_types() -> None:
    types = {type(task) for task in rmdp_bench.list_tasks()}
    assert types == {OnlineTask, OfflineTask}
