import numpy as np
import pytest

from peculiar.pipeline import figures


def test_distances_show_every_point_and_the_perfect_line(predicted):
    (axes,) = figures.distances_figure(predicted, "title").axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 0], predicted["D_mpc"])
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 1], predicted["D_p_mpc"])
    line = axes.lines[0].get_xydata()
    np.testing.assert_array_equal(line[:, 0], line[:, 1])


def test_history_has_both_curves():
    train, validation = np.array([8.0, 7.0]), np.array([9.0, 8.0])
    history = {"epoch": np.arange(1, 3), "train_l2_mpc": train, "validation_l2_mpc": validation}
    (axes,) = figures.history_figure(history, "title").axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[8.0, 7.0], [9.0, 8.0]]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2]] * 2


def test_redshift_distances_have_three_sigma_lines(predicted):
    left, right = figures.redshift_distances_figure(predicted, 5.0, "title").axes
    for axes in (left, right):
        shifts = {round(float(y - x)) for line in axes.lines[1:] for x, y in line.get_xydata()}
        assert shifts == {-15, 15}
    np.testing.assert_array_equal(left.collections[0].get_offsets()[:, 0], predicted["D_z_mpc"])


def test_velocities_show_the_least_squares_line(predicted):
    left, right = figures.velocities_figure(predicted, "title").axes
    for axes, name in ((left, "v_p_kms"), (right, "v_hat_kms")):
        slope, intercept = np.polyfit(predicted["v_kms"], predicted[name], 1)
        x, y = axes.lines[1].get_xydata().T
        np.testing.assert_allclose(y, slope * x + intercept, rtol=1e-9, atol=1e-6)


def calibrated(galaxies=1000, power=1.0, cameras=1):
    """PIT values of as many galaxies, evenly spread (or not) over all their quantiles."""
    even = np.random.default_rng(0).permutation((np.arange(galaxies) + 0.5) / galaxies)
    pit = 0.5 + 0.5 * np.sign(even - 0.5) * np.abs(2 * even - 1) ** power
    return {"pit": np.repeat(pit, cameras), "galaxy": np.repeat(np.arange(galaxies), cameras)}


def test_calibration_of_true_errors_is_flat_and_on_the_diagonal():
    left, right = figures.calibration_figure(calibrated(), "title").axes
    heights = [bar.get_height() for bar in left.patches[: figures.PIT_BINS]]
    np.testing.assert_allclose(heights, 1, atol=1e-9)
    perfect, measured = (line.get_xydata().T for line in right.lines)
    np.testing.assert_array_equal(*perfect)
    np.testing.assert_allclose(*measured, atol=2e-3)
    assert np.ptp(measured[0]) == 1


@pytest.mark.parametrize(("power", "sign"), [(3, 1), (1 / 3, -1)])
def test_calibration_tells_too_wide_from_too_narrow(power, sign):
    """Errors stated too large gather the truth at their middle, and beyond the diagonal."""
    left, right = figures.calibration_figure(calibrated(power=power), "title").axes
    heights = [bar.get_height() for bar in left.patches[: figures.PIT_BINS]]
    assert sign * (heights[5] - heights[0]) > 1
    stated, within = right.lines[1].get_xydata()[1:-1].T
    assert (sign * (within - stated) > -1e-9).all()
    assert (sign * (within - stated)).max() > 0.3
    # |2 pit - 1| is even ** power, so that a fraction s ** (1 / power) is within s
    np.testing.assert_allclose(within, stated ** (1 / power), atol=2e-3)


def test_errors_of_calibration_count_galaxies_and_not_their_cameras():
    def errors(cameras, galaxies):
        left, _ = figures.calibration_figure(calibrated(galaxies, 1, cameras), "title").axes
        bars = np.array([np.ptp(ends[:, 1]) / 2 for ends in left.collections[0].get_segments()])
        assert len(bars) == figures.PIT_BINS
        return bars

    one, four, more = errors(1, 100), errors(4, 100), errors(1, 400)
    np.testing.assert_allclose(one, four)
    # a bin has a tenth of the galaxies, to the root of 0.1 0.9 / galaxies
    np.testing.assert_allclose(one.mean(), 0.3, rtol=0.1)
    np.testing.assert_allclose(more.mean(), 0.15, rtol=0.1)
