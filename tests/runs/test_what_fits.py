"""A solver that is refused for the kind of the task: what fits it, and what fits the task."""

from __future__ import annotations

import pytest

from rmdp_bench.envs.mo_worlds import find_mo_world
from rmdp_bench.runs import SOLVERS, load_solver, make_request
from rmdp_bench.runs.solver_loading import check_config, form_for, make_config
from rmdp_bench.tasks import get_task, heterogeneous_task

KINDS = (
    *("ResourceGathering-n25-k3-v0", "FruitTree-n100-k3-v0", "Glucose-n100-k3-v0"),
    *("CartPoleHet-n500-pure-v1", "Glucose-n100-k3-clinic-v0"),
)
PATIENTS = "em, end_to_end, clustering, ..., without learning by basal_bolus and constant_basal"
CLINIC = "persim_em, factor_clustering, bcq, ..., without learning by clinic_gains"


def refusal(solver: str, task_id: str) -> str:
    """What is said, or "" if the solver takes the task."""
    task = get_task(task_id)
    loaded = form_for(load_solver(solver), task)
    try:
        check_config(loaded, task, make_config(loaded, task))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("solver", "task_id", "same_world", "fitting"),
    [
        ("em", KINDS[4], KINDS[2], CLINIC),
        ("basal_bolus", KINDS[4], KINDS[2], CLINIC),
        ("cadm", KINDS[4], KINDS[3], CLINIC),
        ("cql", "Glucose-n100-k10-v0", KINDS[4], PATIENTS),
        ("em_plus", KINDS[2], KINDS[0], PATIENTS),
        ("persim_em", "Glucose-n100-k1-v0", "Glucose-n100-k1-clinic-v0", "em, end_to_end, "),
        ("em", KINDS[3], KINDS[0], "morel, true_env_mpc, bcq, ..."),
        ("bcq", KINDS[0], KINDS[3], "em, em_plus, end_to_end, ..."),
    ],
)
def test_it_is_said(solver: str, task_id: str, same_world: str, fitting: str) -> None:
    with pytest.raises(ValueError, match=f"solver {solver} refuses {task_id}: ") as caught:
        make_request(solver, task_id)
    said = f"; {solver} solves {same_world}, for example, and {task_id} is solved by {fitting}"
    assert said in str(caught.value)


def test_no_solver_is_said_to_fit_who_would_refuse_too() -> None:
    task = heterogeneous_task("rmdp/CartPoleHet-n500-v0", 2)
    for solver in ("em", "em_plus", "basal_bolus"):
        with pytest.raises(ValueError, match="refuses") as caught:
            make_request(solver, task)
        assert "is solved by" not in str(caught.value)


@pytest.mark.parametrize("task_id", KINDS)
def test_what_is_said_is_what_the_solvers_say(task_id: str) -> None:
    """Others refuse too, where a data set is not built, but not for the kind of the task."""
    if find_mo_world(get_task(task_id).env_id) is not None:
        pytest.importorskip("mo_gymnasium")
    refused = {solver for solver in SOLVERS if " is solved by " in refusal(solver, task_id)}
    for solver in SOLVERS.keys() - refused:
        message = refusal(solver, task_id)
        assert not message or "builds it" in message or "groups" in message, message
    assert refused and refused < SOLVERS.keys()
