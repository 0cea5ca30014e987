"""Statistics against hand-computed cases, printed tables and other libraries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from benchmark.report.tidy import stats


def test_an_estimate_by_hand() -> None:
    found = stats.estimate([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975, 2) from a printed table: 4.303
    assert (found.n, found.mean, found.sd) == (3, 2.0, 1.0)
    assert [found.low, found.high] == pytest.approx([2 - half, 2 + half])
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))


def test_one_value_has_no_spread_and_equal_values_no_interval() -> None:
    assert stats.estimate([5.0]) == stats.Estimate(1, 5.0, None, None, None)
    for values in ([5.0, 5.0], [0.1 + 0.2, 0.3, 0.3], [0.0, 5.5e-17, 0.0]):
        found = stats.estimate(values)
        assert (found.sd, found.low, found.standard_error) == (0.0, None, None)
        assert stats.p_value(found) is None
        assert stats.seeds_to_settle(found) is None


def test_a_paired_comparison_is_scipys_paired_t_test() -> None:
    a, b = {0: 50.0, 1: 54.0, 2: 51.0, 3: 49.5}, {0: 52.0, 1: 55.5, 2: 54.0, 3: 50.0}
    (pair,) = stats.compare({"a": a, "b": b}, "a")
    theirs = scipy_stats.ttest_rel([*b.values()], [*a.values()])
    low, high = theirs.confidence_interval(0.95)
    assert pair.p == pytest.approx(theirs.pvalue)
    assert [pair.difference.low, pair.difference.high] == pytest.approx([low, high])
    assert pair.p_holm == pair.p  # a family of one


def test_only_common_seeds_are_compared() -> None:
    rows = {"erm": {0: 1.0, 1: 2.0, 2: 9.0}, "a": {0: 2.0, 1: 4.0, 5: 0.0}, "b": {7: 1.0}}
    (pair,) = stats.compare(rows, "erm")
    assert (pair.row, pair.difference.n, pair.difference.mean) == ("a", 2, 1.5)


def test_holm_by_hand() -> None:
    # 0.01 * 3; 0.02 * 2; max(0.04, 0.03 * 1)
    assert stats.holm({"x": 0.03, "y": 0.01, "z": 0.02}) == pytest.approx({"y": 0.03, "z": 0.04, "x": 0.04})
    assert stats.holm({}) == {}


def test_holm_is_that_of_statsmodels() -> None:
    draw = np.random.default_rng(0)
    for size in (1, 2, 7, 12):
        p = draw.uniform(0, 0.2, size).round(2).tolist()  # rounded, so that some are equal
        ours = stats.holm({str(i): value for i, value in enumerate(p)})
        assert [*map(ours.__getitem__, map(str, range(size)))] == pytest.approx(
            multipletests(p, method="holm")[1].tolist()
        )


def test_seeds_to_settle_by_hand() -> None:
    # t(0.975, m-1) / sqrt(m) at m = 3, 4, 5, 6: 2.484, 1.591, 1.242, 1.049
    def difference(mean: float) -> stats.Estimate:
        return stats.Estimate(3, mean, 1.0, 0.0, 0.0)

    assert stats.seeds_to_settle(difference(2.5)) == 2  # five seeds at least
    assert stats.seeds_to_settle(difference(-1.3)) == 2
    assert stats.seeds_to_settle(difference(1.1)) == 3
    # t(0.9875, m-1) / sqrt(m) at m = 7, 8: 1.122, 1.004
    assert stats.seeds_to_settle(difference(1.1), family=2) == 5
    # t(0.975, m-1) / sqrt(m) at m = 50, 51: 0.2842, 0.2813
    assert [stats.seeds_to_settle(difference(mean)) for mean in (0.2845, 0.283)] == [47, None]  # of fifty at most
    assert stats.seeds_to_settle(difference(0.1)) is None  # some 390 seeds


@given(
    st.lists(st.lists(st.floats(-10, 10), min_size=5, max_size=5), min_size=1, max_size=5).filter(
        lambda rows: all(np.std(row) > 1e-3 for row in rows)
    )
)
def test_interval_test_and_seeds_to_settle_agree(rows: list[list[float]]) -> None:
    """On five seeds: Holm's test rejects 0 wherever the simultaneous interval leaves it out, and exactly where the test
    does no more seeds are asked for."""
    values = {"erm": dict.fromkeys(range(5), 0.0)} | {str(i): dict(enumerate(row)) for i, row in enumerate(rows)}
    for pair in stats.compare(values, "erm"):
        assert pair.interval is not None
        assert pair.p_holm is not None
        assert pair.p is not None
        low, high = pair.interval
        assert pair.significant == (pair.p_holm < 0.05)
        assert pair.significant or low <= 1e-9 >= -high
        assert low <= pair.difference.mean <= high
        if abs(pair.p * len(rows) - 0.05) > 1e-6:
            assert (pair.more_seeds == 0) == pair.significant


def test_the_simultaneous_interval_is_bonferronis() -> None:
    rows = {"erm": {0: 0.0, 1: 0.0, 2: 0.0}, "a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: -1.0, 1: 0.0, 2: 1.0}}
    (first, _) = stats.compare(rows, "erm")
    half = 6.2053 / 3**0.5  # t(0.9875, 2)
    assert first.interval == pytest.approx((2 - half, 2 + half), abs=1e-4)


def test_ranks_by_hand_with_ties() -> None:
    blocks = [{"a": 90.0, "b": 80.0, "c": 80.0}, {"a": 50.0, "b": 60.0, "c": 40.0, "late": 1.0}]
    found = stats.average_ranks(blocks)
    assert found is not None
    assert found.mean == {"a": 1.5, "b": 1.75, "c": 2.75}
    assert found.blocks == 2


def test_means_that_differ_by_rounding_alone_share_a_rank() -> None:
    """749 of 2,500 images right, counted in two ways."""
    found = stats.average_ranks([{"a": 29.959999999999997, "b": 29.96, "c": 30.0}] * 2)
    assert found is not None
    assert found.mean == {"a": 2.5, "b": 2.5, "c": 1.0}


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_uses_demsars_table(k: int, q: float) -> None:
    """Demsar, JMLR 7 (2006), table 5a, alpha = 0.05."""
    found = stats.average_ranks([{str(row): float(row) for row in range(k)}] * 6)
    assert found is not None
    assert found.critical_difference == pytest.approx(q * math.sqrt(k * (k + 1) / 36), rel=3e-4)


def test_ranks_need_two_rows_and_two_blocks() -> None:
    assert stats.average_ranks([]) is None
    assert stats.average_ranks([{"a": 1.0, "b": 2.0}]) is None
    assert stats.average_ranks([{"a": 1.0, "b": 2.0}, {"a": 1.0}]) is None


def test_bold_needs_what_the_differences_from_erm_show() -> None:
    """Among the best row's two tests Holm takes p against ERM as it is, among ERM's two it is doubled."""
    values = {"a": (3.2, 3.3, 2.3, 0.3, 2.0), "b": (-0.8, -1.4, 0.3, -0.6, -1.0), "erm": (-0.6, 0.2, 0.2, 0.8, 0.0)}
    rows = {row: dict(enumerate(found)) for row, found in values.items()}
    assert [pair.significant for pair in stats.compare(rows, "a")] == [True, True]
    assert not any(pair.significant for pair in stats.compare(rows, "erm"))
    assert stats.supported_best(rows) is None
    assert stats.supported_best({"another" if row == "erm" else row: found for row, found in rows.items()}) == "a"


def test_a_significant_pair_needs_no_more_seeds() -> None:
    """Also where Holm's test settles it, and the interval for all rows at once alone would not."""
    values = {"a": (5.0, 5.1, 4.9, 5.0, 5.2), "b": (1.9, 0.3, 1.5, 0.1, 1.3), "erm": (0.0, 0.1, 0.0, -0.1, 0.0)}
    pairs = {p.row: p for p in stats.compare({row: dict(enumerate(v)) for row, v in values.items()}, "erm")}
    assert stats.seeds_to_settle(pairs["b"].difference, 2) == 1
    assert (pairs["b"].significant, pairs["b"].more_seeds) == (True, 0)


def test_bold_needs_the_best_to_beat_every_other() -> None:
    values = {"a": (60.0, 61.1, 60.4, 60.2, 60.9), "b": (50.0, 51.0, 50.6, 50.1, 50.8), "c": (40.0, 41.5, 40.2, 40, 41)}
    clear = {row: dict(enumerate(found)) for row, found in values.items()}
    assert stats.supported_best(clear) == "a"
    few = {row: {seed: value for seed, value in found.items() if seed < 4} for row, found in clear.items()}
    assert all(pair.p_holm is not None and pair.p_holm < 0.01 for pair in stats.compare(few, "a"))
    assert stats.supported_best(few) is None  # four seeds are too few, however clear
    close = clear | {"d": {0: 59.0, 1: 62.0, 2: 58.0, 3: 60.0, 4: 61.0}}
    assert stats.best(close) == "a"
    assert stats.supported_best(close) is None
    assert stats.supported_best(clear | {"one seed": {0: 1.0}}) is None
    assert stats.supported_best({"a": clear["a"]}) is None
    equal = {"a": {0: 2.0, 1: 3.0}, "b": {0: 1.0, 1: 2.0}}  # the same difference twice has no spread to judge by
    assert stats.supported_best(equal) is None


def test_bold_needs_a_seed_in_common_with_every_other() -> None:
    clear = {"a": dict(enumerate((60.0, 61.1, 60.4, 60.2, 60.9))), "b": dict(enumerate((50.0, 51.0, 50.6, 50.1, 50.8)))}
    assert stats.supported_best(clear) == "a"
    assert stats.supported_best(clear | {"apart": {9: 1.0}}) is None


def test_a_row_that_leads_by_its_further_seeds_alone_is_not_bold() -> None:
    erm = dict(enumerate((50.0, 50.5, 49.7, 50.2, 49.9))) | dict.fromkeys(range(5, 10), 60.0)
    rows = {"erm": erm, "augmix": dict(enumerate((51.0, 51.6, 50.6, 51.3, 50.9)))}
    (pair,) = stats.compare(rows, "erm")
    assert (stats.best(rows), pair.significant, pair.difference.mean > 0) == ("erm", True, True)
    assert stats.supported_best(rows) is None


def test_a_pair_without_a_spread_makes_no_interval_wider() -> None:
    rows = {"erm": {0: 0.0, 1: 0.0, 2: 0.0}, "a": {0: 1.0, 1: 2.0, 2: 3.0}, "same": {0: 1.0, 1: 1.0, 2: 1.0}}
    pair = {pair.row: pair for pair in stats.compare(rows, "erm")}["a"]
    half = 4.302652729911275 / 3**0.5  # t(0.975, 2)
    assert pair.interval == pytest.approx((2 - half, 2 + half))
    assert pair.p_holm == pair.p
