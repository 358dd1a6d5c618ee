"""Pictures of a training."""

import numpy as np

from peculiar.training import curves


def test_distances_show_every_point_and_the_perfect_line(predicted):
    (axes,) = curves.distances_figure(predicted, "title").axes
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 0], predicted["D_mpc"])
    np.testing.assert_array_equal(axes.collections[0].get_offsets()[:, 1], predicted["D_p_mpc"])
    line = axes.lines[0].get_xydata()
    np.testing.assert_array_equal(line[:, 0], line[:, 1])


def test_history_has_both_curves():
    history = [{"epoch": e, "train_l2_mpc": 9.0 - e, "validation_l2_mpc": 10.0 - e} for e in (1, 2)]
    (axes,) = curves.history_figure(history, "title").axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[8.0, 7.0], [9.0, 8.0]]
