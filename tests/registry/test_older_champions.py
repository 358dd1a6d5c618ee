"""Champions that were promoted before the package was rearranged predict the same numbers.

The fixtures were written at commit 0147383, on a tiny stand-in: what `peculiar export` wrote, six
images, and what `predict_velocity` gave for them.
"""

import tarfile
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable

from builders.pipeline import inside
from peculiar.predict.columns import COLUMNS
from peculiar.predict.notebook import load_model, predict_velocity
from peculiar.predict.units import BRIGHTNESS
from peculiar.registry.exchange import adopt

DATA = Path(__file__).parents[1] / "data"
RELATIVE = 1e-5  # other processors and versions of torch sum in another order


@pytest.mark.parametrize("network", ["cnn2", "starlet"])
def test_an_older_champion_predicts_the_same(network, tmp_path):
    with tarfile.open(DATA / f"champion_0147383_{network}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with inside(tmp_path):
        adopt(tmp_path / "champion")
        model = load_model("peculiar-velocity")
    images = np.load(tmp_path / "images.npy") * BRIGHTNESS
    cz = np.linspace(4000, 6500, len(images)) * u.km / u.s
    table = predict_velocity(images, cz, model, cz_error=30 * u.km / u.s)
    before = QTable.read(tmp_path / "predictions.ecsv")
    assert table.colnames == before.colnames
    for name in COLUMNS:
        expected = before[name].value
        scale = np.abs(before["D_p"].value).max()
        if table[name].unit == u.km / u.s:  # differences of numbers of this size
            scale *= model.H0_kms_mpc
        assert table[name].unit == before[name].unit
        np.testing.assert_allclose(
            table[name].value, expected, rtol=RELATIVE, atol=RELATIVE * scale, err_msg=name
        )
    assert table["flags"].tolist() == before["flags"].tolist()
    assert (model.grid_mpc is None) == (network == "cnn2")
    prior = "uniform" if model.grid_mpc is None else "training"  # it was in p(D | image)
    assert dict(table.meta) == {
        **{n: before.meta[n] for n in table.meta if n != "prior"},
        "prior": prior,
    }
