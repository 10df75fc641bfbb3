"""A histogram's sum: whole millionths, whatever was observed."""

from sluicegate.observability.tallies import MILLIONTHS, Histogram


def test_the_sum_of_what_was_observed_is_dumped_in_millionths() -> None:
    histogram = Histogram("seconds", "How long.", ("model",), (0.1, 1.0))
    series = histogram.labels("m")
    for seconds in (0.05, 0.5, 2.25):
        series.observe(seconds)
    (dumped,) = histogram.dump().series
    assert dumped.labels == ("m",)
    assert dumped.values == (1, 1, 1, round(2.8 * MILLIONTHS))
