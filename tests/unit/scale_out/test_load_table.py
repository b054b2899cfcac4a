"""What a front tier knows of its replicas."""

from __future__ import annotations

from typing import Any

from darkroom_server.domain.models import Dtype
from darkroom_server.scale_out.load_table import LoadTable, load_of, pace_of
from darkroom_server.scale_out.messages import ReplicaState, RunJob
from darkroom_server.worker.messages import SizeCost, WorkerStats
from tests.unit.specs import image_spec, job

COST = SizeCost(pixel_count=16 * 8, room=8, step_s_by_rows=((1, 1.0), (8, 1.4)), image_s=0.5)


def request(job_id: str, *, avoided: frozenset[str] = frozenset(), **changes: Any) -> RunJob:
    return RunJob(job=job(job_id, **changes), left_s=None, is_promised=False, avoided=avoided)


def state(replica_id: str, work_s: float = 0.0, number: int = 1) -> ReplicaState:
    return ReplicaState(
        replica_id=replica_id,
        number=number,
        node_id="node",
        work_s=work_s,
        memory_bytes=1,
        dtype=Dtype.FP32,
        made_by="torch-2.13",
        stats=WorkerStats(costs=(COST,)),
    )


def table(*ids: str) -> LoadTable:
    made = LoadTable(seed=1)
    made.set_replicas(ids)
    for one in ids:
        made.note_report(state(one))
    return made


def test_jobs_spread_over_idle_replicas_and_then_join_their_size() -> None:
    replicas = table("a", "b")
    first = replicas.place(request("1"), ("a", "b"))
    second = replicas.place(request("2", width_px=32), ("a", "b"))
    assert {first, second} == {"a", "b"}
    assert replicas.place(request("3"), ("a", "b")) == first
    assert replicas.place(request("4", width_px=32), ("a", "b")) == second


def test_what_ended_weighs_nothing() -> None:
    replicas = table("a", "b")
    first = replicas.place(request("1"), ("a", "b"))
    replicas.ended("1")
    assert replicas.where("1") is None
    replicas.place(request("2", width_px=32, avoided=frozenset({first or ""})), ("a", "b"))
    assert replicas.place(request("3"), ("a", "b")) == first


def test_work_of_other_servers_is_kept_away_from() -> None:
    replicas = table("a", "b")
    replicas.note_report(state("a", work_s=100.0, number=2))
    assert replicas.place(request("1"), ("a", "b")) == "b"


def test_what_was_overtaken_is_no_news() -> None:
    replicas = table("a", "b")
    newer, older = state("a", work_s=100.0, number=3), state("a", number=2)
    assert replicas.note_report(newer) == state("a")
    assert replicas.note_report(older) is older
    assert replicas.place(request("1"), ("a", "b")) == "b"


def test_a_job_that_avoids_all_goes_nowhere() -> None:
    assert table("a").place(request("1", avoided=frozenset("a")), ("a",)) is None


def test_what_is_refused_is_offered_to_its_size_to_idle_ones_and_seldom_to_others() -> None:
    ids = ("a", "b", "c")
    replicas = table(*ids)
    for number in range(300):
        replicas.place(request(f"small {number}"), ids)
        replicas.place(request(f"large {number}", width_px=32), ids)
        if number < 297:
            replicas.ended(f"small {number}")
            replicas.ended(f"large {number}")
    home = replicas.place(request("new"), ids)
    assert home is not None
    # Small ones are a third of the work, so one replica is theirs.
    refused = frozenset({home})
    offers = [replicas.is_offered("new", refused) for _ in range(10)]
    assert offers[0]
    assert not offers[-1]
    assert replicas.is_offered("new", frozenset())
    assert not replicas.is_offered("new", frozenset(ids))
    assert not replicas.is_offered("unknown", refused)
    # One that has become idle takes anything.
    replicas.set_replicas((*ids, "d"))
    assert replicas.is_offered("new", refused)
    assert replicas.place(request("new", avoided=refused), (*ids, "d")) == "d"


def test_replicas_that_are_gone_are_told_once() -> None:
    replicas, gone = table("a", "b"), []
    replicas.on_gone = gone.append
    replicas.set_replicas(("b", "c"))
    replicas.set_replicas(("b", "c"))
    assert gone == [frozenset("a")]
    assert replicas.replica_ids == {"b", "c"}
    assert [one.replica_id for one in replicas.states()] == ["b"]


def test_progress_makes_a_replica_free_sooner() -> None:
    replicas = table("a", "b")
    first = replicas.place(request("1", step_count=100), ("a", "b"))
    second = replicas.place(request("2", step_count=50, width_px=32), ("a", "b"))
    replicas.progressed("1", left_share=0.02)
    assert {first, second} == {"a", "b"}
    assert replicas.place(request("3", width_px=64), ("a", "b")) == first


def test_costs_of_sizes_that_no_worker_has_told_are_those_of_the_nearest_to_scale() -> None:
    pace = pace_of(image_spec(width_px=32), (COST,))
    assert (pace.room, pace.step_s(1), pace.image_s) == (8, 2.0, 1.0)
    assert load_of(image_spec(guidance_scale=5.0, step_count=4, seeds=(1, 2)), 1).rows == 2
    assert load_of(image_spec(step_count=4), 1).evaluations == (3,)
