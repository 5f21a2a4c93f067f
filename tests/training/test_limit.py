"""The machine's limit: no run is above it, and where it may be too low it is called an estimate."""

import pytest

from marlstone.cli.report import share, training
from marlstone.rollout.placement import SeedPlacement
from marlstone.training.limit import Limit, matrix_rate


def test_environment_and_products_add_up_unless_they_overlap() -> None:
    serial, beside = (Limit(100.0, 10.0, 500.0, overlapped=x) for x in (False, True))
    assert serial.steps_per_second == pytest.approx(100 / 3) and beside.steps_per_second == pytest.approx(50)


@pytest.mark.parametrize("speed", [0.1, 30.0, 33.4, 49.0, 1e6])
@pytest.mark.parametrize("estimate", [True, False])
def test_no_run_is_above_its_limit(speed: float, estimate: bool) -> None:
    limit = Limit(100.0, 10.0, 500.0, is_estimate=estimate)
    record = limit.record(speed)
    assert record["share_of_limit"] == speed / record["limit_steps_per_second"] <= 1
    assert record["limit_steps_per_second"] >= limit.steps_per_second
    assert record["limit_is_estimate"] == (estimate or speed > limit.steps_per_second)
    shown = dict(training({"steps_per_second": speed, **record}))["share of the machine's limit"]
    assert ("estimate" in shown) == record["limit_is_estimate"]
    assert "%" not in shown or float(shown.split("%")[0]) <= 100


def test_older_records_never_show_more_than_all() -> None:
    assert share(1.47, False) == "at the limit (estimate)" and share(0.994, False) == "99%" and share(0.5, True) == "50% (estimate)"


def test_products_are_computed_where_their_rate_is_measured() -> None:
    """Nothing is left out or moved out of the loop: no processor makes 1e14 FLOP/s, an empty loop would seem to."""
    assert 0 < matrix_rate({(512, 256, 64): 1.0}, SeedPlacement(1)) < 1e14


def test_the_matrix_rate_is_of_the_products_that_cost_most() -> None:
    """Rates of shapes mean harmonically, by what they cost: slow products are not hidden behind a fast one."""
    fast, slow = (512, 512, 512), (4096, 9, 4)
    alone = [matrix_rate({shape: 1.0}, SeedPlacement(1)) for shape in (fast, slow)]
    both = matrix_rate({fast: 1.0, slow: 1.0}, SeedPlacement(1))
    assert alone[1] < both < 0.9 * alone[0]
