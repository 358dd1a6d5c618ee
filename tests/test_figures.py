import numpy as np
import pytest

from peculiar import figures
from peculiar.bands import surface_brightness


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    D, v = rng.uniform(50, 100, 50), rng.normal(0, 400, 50)
    D_p = D + rng.normal(0, 5, 50)
    return {
        "D_mpc": D, "D_z_mpc": D + v / 70, "D_p_mpc": D_p, "v_kms": v,
        "v_p_kms": v + 70 * (D - D_p), "v_hat_kms": v / 2,
    }  # fmt: skip


def test_distances_show_every_point_and_the_perfect_line(predicted):
    (axes,) = figures.distances_figure(predicted, "title").axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 0], predicted["D_mpc"])
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 1], predicted["D_p_mpc"])
    line = axes.lines[0].get_xydata()
    np.testing.assert_array_equal(line[:, 0], line[:, 1])


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


def test_history_has_both_curves():
    history = [{"epoch": e, "train_l2_mpc": 9.0 - e, "validation_l2_mpc": 10.0 - e} for e in (1, 2)]
    (axes,) = figures.history_figure(history, "title").axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[8.0, 7.0], [9.0, 8.0]]


def test_placed_images_share_their_scale_across_distances():
    images = np.ones((3, 2, 4, 4), dtype=np.float32)
    images[1:] *= 0.1
    panels = figures.placed_figure(images, [50, 75, 100], "gr", "title").axes
    values = [float(axes.images[0].get_array().max()) for axes in panels]
    assert values == pytest.approx([0, -1, -1, 0, -1, -1])
    assert [axes.get_title() for axes in panels[:3]] == ["50 Mpc", "75 Mpc", "100 Mpc"]


def test_cameras_share_one_scale_and_stand_in_rows():
    images = np.ones((2, 3, 4, 4), dtype=np.float32)
    images[1] *= 0.01
    panels = figures.cameras_figure(images, "gri", "title").axes
    values = [float(axes.images[0].get_array().max()) for axes in panels]
    assert values == pytest.approx([0, 0, 0, -2, -2, -2])
    assert [axes.get_title() for axes in panels[:3]] == ["g", "r", "i"]
    assert [axes.get_ylabel() for axes in panels[::3]] == ["CAM0", "CAM1"]


def portrait(bands="gri", shape=(20, 20), arcsec=0.5, kpc=0.2, level=20.0):
    images = np.stack([np.full(shape, surface_brightness(level, band)) for band in bands])
    return figures.Portrait("galaxy.fits", images, bands, arcsec, kpc)


def test_thumbnails_have_a_row_a_file_and_colours_where_gri_are_there():
    panels = figures.thumbnail([portrait("ugriz"), portrait("gr")]).axes
    assert len(panels) == 12
    names = [[text.get_text() for text in axes.texts] for axes in panels]
    assert names[:6] == [["gri", "1 kpc = 2.5 arcsec"], ["u"], ["g"], ["r"], ["i"], ["z"]]
    assert [name[0] for name in names[6:8]] == ["g", "r"]
    assert not any(names[8:])
    assert panels[0].images[0].get_array().shape == (20, 20, 3)
    assert [axes.get_title(loc="left") for axes in (panels[0], panels[6])] == ["galaxy.fits"] * 2


def test_thumbnails_share_one_stretch():
    faint, bright = figures.thumbnail([portrait("r", level=25.5), portrait("r", level=18.5)]).axes
    assert float(bright.images[0].get_array()[0, 0]) == pytest.approx(1)
    white = 10 ** (0.4 * 7)
    expected = np.arcsinh(1) / np.arcsinh(white)
    assert float(faint.images[0].get_array()[0, 0]) == pytest.approx(expected)
    assert [axes.images[0].get_clim() for axes in (faint, bright)] == [(figures.BLACK, 1)] * 2


def test_thumbnails_of_single_bands_stand_side_by_side():
    grid = figures.thumbnail([portrait("r")] * 8).axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (2, 6)


def test_a_dark_galaxy_is_black_in_colour():
    dark = figures.Portrait("dark", np.zeros((3, 8, 8)), "gri", 1.0, 1.0)
    assert figures.thumbnail([dark]).axes[0].images[0].get_array().max() == 0


@pytest.mark.parametrize(
    ("arcsec", "kpc", "words", "pixels"),
    [
        (0.5, 0.25, "1 kpc = 2 arcsec", 4),
        (0.4, np.nan, "2 arcsec", 5),
        (np.nan, 3.0, "10 kpc", 10 / 3),
        (np.nan, np.nan, None, None),
    ],
)
def test_scale_bars_have_their_length(arcsec, kpc, words, pixels):
    (axes,) = figures.thumbnail([portrait("r", (30, 20), arcsec, kpc)]).axes
    if words is None:
        assert len(axes.texts) == 1
        assert not axes.lines
        return
    assert axes.texts[1].get_text() == words
    assert np.ptp(axes.lines[0].get_xdata()) == pytest.approx(pixels)
