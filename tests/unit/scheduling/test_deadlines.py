"""Deadlines and limits that hold although costs were misjudged, or steps cannot be taken at all."""

from __future__ import annotations

from darkroom_server.domain.jobs import Priority
from tests.unit.scheduling.simulated import STEP_S, Device
from tests.unit.scheduling.test_step_batcher import MAX_ROWS, simulated


def first_of_next(simulation: Device) -> str:
    batch = simulation.batcher.plan(simulation.now_s)
    assert batch is not None
    return batch.steps[0].job_id


def test_a_disturbed_step_costs_nobody_the_place_for_long() -> None:
    simulation = simulated()
    simulation.add("promised", rows=4, steps=4, within_s=5.0)
    simulation.add("later", rows=4, steps=1, within_s=200.0)
    simulation.batcher.costs.learn("a", MAX_ROWS, 60.0)
    assert first_of_next(simulation) == "promised", "one disturbed step is not believed"
    for _ in range(20):
        simulation.batcher.costs.learn("a", MAX_ROWS, 60.0)
    assert first_of_next(simulation) == "later"
    for _ in range(30):
        simulation.batcher.costs.learn("a", MAX_ROWS, STEP_S)
    assert first_of_next(simulation) == "promised"


def test_images_that_run_one_after_another_are_counted_one_after_another() -> None:
    simulation = simulated()
    simulation.add("endless", "b", steps=100)
    simulation.add("promised", "a", steps=3, images=4, exact=True, within_s=16.0)
    simulation.run()
    made_s = 1 + max(
        number
        for number, batch in enumerate(simulation.batches)
        for step in batch.steps
        if step.job_id == "promised"
    )
    assert made_s <= 16.0


def test_alone_one_image_is_made_before_the_next_begins() -> None:
    simulation = simulated()
    simulation.add("x", steps=2, images=2, exact=True)
    simulation.add("y", steps=1, exact=True, priority=Priority.LOW)
    simulation.run()
    steps = [
        (step.job_id, step.image_index) for batch in simulation.batches for step in batch.steps
    ]
    assert steps == [("x", 0), ("x", 0), ("x", 1), ("x", 1), ("y", 0)]


def test_shared_the_images_of_a_job_go_side_by_side() -> None:
    simulation = simulated()
    simulation.add("x", rows=2, steps=2, images=3)
    simulation.run()
    steps = [[step.image_index for step in batch.steps] for batch in simulation.batches]
    assert steps == [[0, 1], [2, 0], [1, 2]]


def test_a_step_that_never_fits_upsets_no_order() -> None:
    simulation = simulated()
    simulation.batcher.costs.ran_out("huge", 2)
    simulation.add("never", "huge", rows=2)
    for name in ("x", "y", "z"):
        simulation.add(name, rows=4, steps=1)
    simulation.batcher.remove("y")
    assert set(simulation.batcher.order()) == {"x", "z", "never"}
    ended = [name for [name] in simulation.run() if name != "never"]
    assert (set(ended), len(simulation.batcher)) == ({"x", "z"}, 0)
