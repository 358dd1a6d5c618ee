"""What a search finds beside what the paper gives: parameters and table; the rest is the stages."""

import json

import numpy as np
import pytest
from astropy.table import Table

from experiments.standin import found
from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.galaxies.params import Fetch
from peculiar.search.params import Search
from peculiar.training.params import Train


def test_parameters_are_valid_and_the_networks_get_as_many_epochs(shipped):
    before = json.dumps(shipped)
    params = found.parameters(shipped, seed=9, trials=60, epochs=4, galaxies=70)
    assert json.dumps(shipped) == before
    search = validate(Search, params["search"], "search")
    train = validate(Train, params["train"], "train")
    assert (search.trials, search.epochs, search.seed, train.seed) == (60, 4, 9, 9)
    assert [name for _, name in train.items()] == ["cnn2", "cnn3", "cnn4", "cnn5", "best"]
    assert {train.specs[name].epochs for name in found.CNNS} == {params["train"]["best"]["epochs"]}
    assert validate(Fetch, params["fetch"], "fetch").standin.galaxies == 70
    assert params["observe"] == shipped["observe"]


def test_galaxies_that_are_not_simulated_cannot_be_counted_out(shipped):
    shipped["fetch"]["source"] = "files"
    with pytest.raises(InputError, match=r"stand-ins, fetch\.source is files: leave it out"):
        found.parameters(shipped, 1, 60, 4, galaxies=70)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_table_has_means_and_deviations_over_seeds(seeds):
    rng = np.random.default_rng(0)
    rows = [
        {
            "network": name,
            "seed": seed,
            "validation_l2_dz_mpc": rng.uniform(9, 14),
            "test_l2_dz_mpc": rng.uniform(9, 14),
            "test_l2_d_mpc": 10.0 + seed,
        }
        for seed in range(seeds)
        for name in found.NETWORKS
    ]
    lines = found.summary(Table(rows=rows)).splitlines()
    assert len(lines) == 2 + len(found.NETWORKS)
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells[0] == "best"
    assert cells[3] == ("10.00" if seeds == 1 else "11.00 ± 1.00")
