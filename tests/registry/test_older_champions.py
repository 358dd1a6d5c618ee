"""Champions from before networks were data are refused; their runs still predict the same numbers.

The fixtures were written at commit 0147383, on a tiny stand-in: what `peculiar export` wrote, six
images, and what `predict_velocity` gave for them.
"""

import json
import tarfile
import zipfile
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from safetensors.numpy import save_file

from builders.pipeline import inside
from peculiar.core.errors import InputError
from peculiar.predict.columns import COLUMNS, EXTINCTION, USED
from peculiar.predict.notebook import predict_velocity
from peculiar.predict.priors import prior_named
from peculiar.predict.units import BRIGHTNESS
from peculiar.registry.champion import Champion
from peculiar.registry.exchange import adopt
from peculiar.runs import record
from peculiar.runs.weights import WEIGHTS

DATA = Path(__file__).parents[1] / "data"
RELATIVE = 1e-5  # other processors and versions of torch sum in another order
DTYPES = {5: "<i8", 7: "<f4"}  # codes in an export


@pytest.fixture(params=["cnn2", "starlet"])
def older(request, tmp_path):
    with tarfile.open(DATA / f"champion_0147383_{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_an_older_champion_is_refused_with_the_way_out(older):
    with (
        inside(older),
        pytest.raises(
            InputError,
            match=r"version 1 of peculiar-velocity is an exported program \(data/model\.pt2\) and "
            r"is not loaded, since that can run code: train and promote it again with `make "
            r"repro`, or ask who sent it for an export",
        ),
    ):
        adopt(older / "champion")
    assert not (older / "mlruns").exists()


def exported_weights(path):
    """Numbers in an export of torch, which is a zip; nothing of it is executed."""
    with zipfile.ZipFile(path) as archive:
        folder = "model/data/weights"
        listed = json.loads(archive.read(f"{folder}/model_weights_config.json"))["config"]
        return {
            name: np.frombuffer(
                archive.read(f"{folder}/{entry['path_name']}"),
                DTYPES[entry["tensor_meta"]["dtype"]],
            ).reshape([size["as_int"] for size in entry["tensor_meta"]["sizes"]])
            for name, entry in listed.items()
        }


def rebuilt(version, folder):
    """The champion of an older version, from its run.json and the numbers in its export."""
    run = record.read_run(version / "run")
    save_file(exported_weights(version / "model/data/model.pt2"), folder / WEIGHTS)
    return Champion(
        network=record.read_network(folder, run).eval(),
        grid_mpc=None if run.grid_mpc is None else np.array(run.grid_mpc),
        version="1",
        survey=run.survey,
        sigma_D_mpc=run.sigma_D_mpc,
        model="peculiar-velocity",
        validity=run.validity,
        flat=False,
    )


def test_an_older_run_predicts_the_same(older):
    model = rebuilt(older / "champion/versions/1", older)
    images = np.load(older / "images.npy") * BRIGHTNESS
    cz = np.linspace(4000, 6500, len(images)) * u.km / u.s
    as_then = {"frame": "cmb", "cosmology": "hubble"}  # cz was taken as it was, by Hubble's law
    as_then["ebv"] = 0 * u.mag  # and so was the image
    table = predict_velocity(images, cz, model, cz_error=30 * u.km / u.s, **as_then)
    before = QTable.read(older / "predictions.ecsv")
    new = {*USED, *EXTINCTION, "eta", "eta_error", "frame"}
    assert [name for name in table.colnames if name not in new] == before.colnames
    for name in (name for name in COLUMNS if name not in new):
        expected = before[name].value
        scale = np.abs(before["D_p"].value).max()
        if table[name].unit == u.km / u.s:  # differences of numbers of this size
            scale *= model.H0_kms_mpc
        assert table[name].unit == before[name].unit
        np.testing.assert_allclose(
            table[name].value, expected, rtol=RELATIVE, atol=RELATIVE * scale, err_msg=name
        )
    assert table["flags"].tolist() == before["flags"].tolist()
    prior = "uniform" if model.grid_mpc is None else "training"  # it was in p(D | image)
    other = {"digest": "", "frame": "cmb", "law": "hubble, H0 = 70"}
    other |= {"prior": prior_named(prior).describe(model), "v_prior": "N(0, 400 km/s)"}
    other |= {"dust": "none removed", "D_least": 50.0, "D_most": 100.0}
    assert dict(table.meta) == {n: before.meta[n] for n in table.meta if n not in other} | other
