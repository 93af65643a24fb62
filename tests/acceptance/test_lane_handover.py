"""Jobs handed straight to an idle worker: what happens when that worker stands still, or dies of them."""

import pytest

from tests.acceptance.lane_yard import Yard
from tests.acceptance.processes import until


def test_a_job_handed_to_a_standing_worker_runs_once(yard: Yard) -> None:
    """Another worker takes it over, and the first one, once it moves again, knows that it is late."""
    yard.ready()
    yard.put("block", {"name": "block", "seconds": 4})
    until(lambda: bool(yard.starts()), "it runs")
    yard.works(["handed"], 0.2)
    yard.ready()
    until(lambda: "handed" in yard.ends(), "the job is over", 20)
    until(lambda: "block" in yard.ends(), "the worker moves again", 20)
    yard.works(["later"], 0.0)
    until(lambda: "later" in yard.ends(), "what comes after it is over", 20)
    assert yard.starts()["handed"] == 1


def test_a_job_that_computes_from_its_first_line_runs_once(yard: Yard) -> None:
    """Its worker finds no time to say that it arrived, for longer than Redis waits for that."""
    crew = [yard.ready(WORKER_LEASE_SECONDS="15") for _ in range(2)]
    yard.put("block", {"name": "block", "seconds": 4})
    yard.all_end(["block"], 20)
    assert yard.starts()["block"] == 1
    assert not any("worker that died" in worker.said or "lease lost" in worker.said for worker in crew)


@pytest.mark.timeout(120)
def test_a_job_that_kills_the_worker_it_was_handed_to_is_found_out(yard: Yard) -> None:
    """A kill counts, whether or not the worker lived to say that the job had arrived."""
    yard.ready()
    yard.put("kill", {"name": "guilty"})
    for _ in range(8):
        until(lambda: not yard.workers[-1].is_alive or bool(yard.letters()), "it dies, or the job is found out", 20)
        if yard.letters():
            break
        yard.begin()
    assert yard.starts()["guilty"] == 3
    assert "3 workers died" in yard.letters()[0]["error"]
