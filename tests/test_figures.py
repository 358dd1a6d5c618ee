import numpy as np
import pytest

from peculiar import figures


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
