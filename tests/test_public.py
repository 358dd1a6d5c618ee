"""The names that `import peculiar` offers."""

import subprocess
import sys

import pytest

import peculiar
from builders.champions import GRID, mean_champion
from builders.surveys import NORMAL
from peculiar.core.errors import NotFinite
from peculiar.mock.instrument import Instrument


def test_the_public_names_are_there():
    from peculiar import Champion, InputError, PeculiarError, load_model, predict_velocity

    names = [Champion, InputError, PeculiarError, load_model, predict_velocity]
    assert {name.__name__ for name in names} | {"__version__"} == set(peculiar.__all__)
    assert dir(peculiar) == sorted(peculiar.__all__)
    assert all(getattr(peculiar, name) for name in peculiar.__all__)
    with pytest.raises(AttributeError, match="module 'peculiar' has no attribute 'nothing'"):
        peculiar.nothing  # noqa: B018


def test_one_error_catches_all_that_a_user_can_fix():
    for error in (peculiar.InputError, NotFinite):
        assert issubclass(error, peculiar.PeculiarError)
    with pytest.raises(SystemExit, match="peculiar: fix it"), peculiar_one_sentence():
        raise peculiar.PeculiarError("fix it")


def peculiar_one_sentence():
    from peculiar.core.errors import one_sentence

    return one_sentence()


def test_errors_and_names_cost_no_heavy_import():
    code = "import sys, peculiar; peculiar.PeculiarError; dir(peculiar); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "mlflow", "numpy", "astropy"}.isdisjoint(done.stdout.split())


def test_a_model_is_described_in_five_lines():
    model = mean_champion(model="peculiar-velocity", grid_mpc=GRID)
    assert repr(model).splitlines() == [
        "Champion peculiar-velocity version 1, trained on stand-in",
        "  images     bands r, 300 x 300 pixels of 0.396 arcsec",
        "  distances  50 to 100 Mpc",
        "  errors     p(D | image) on a grid of 50 distances; sigma_v = 400 km/s, H0 = 70 km/s/Mpc",
        "  training   images with no sky and no noise",
    ]
    instrument = Instrument.__new__(Instrument)
    lines = repr(mean_champion(sigma_D_mpc=12.345, instrument=instrument)).splitlines()
    assert lines[2] == "  distances  50 to 100 Mpc"
    unlimited = mean_champion(distances=NORMAL)
    assert repr(unlimited).splitlines()[2] == "  distances  unknown"
    assert "sigma_D = 12.3 Mpc; sigma_v = 400 km/s" in lines[3]
    assert lines[4] == "  training   images with sky, seeing and noise"
