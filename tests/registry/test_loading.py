"""Tags of a version are validated, and no command executes anything of a registry."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from builders.networks import GRID, small
from builders.registries import MODEL, VALIDITY, write_registry
from builders.standin import small_standin
from peculiar.core.errors import InputError
from peculiar.galaxies.standin.simulation import make_broadband
from peculiar.registry import exchange, ledger, models
from peculiar.registry.champion import load_champion
from peculiar.runs import tracking

pytestmark = pytest.mark.xdist_group("mlflow")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a champion, and the champion's run and tags."""
    store = tmp_path_factory.mktemp("loading") / "mlruns"
    return store, *write_registry(store)


@pytest.fixture
def store(made):
    """That store, open; the tags of its version and model are restored afterwards."""
    client = mlflow.MlflowClient()
    tracking.open_to_read(made[0])
    history = client.get_registered_model(MODEL).tags["history.0001"]
    yield made[0]
    for key, value in made[2].items():
        client.set_model_version_tag(MODEL, "1", key, value)
    client.set_registered_model_tag(MODEL, "history.0001", history)


def test_the_champion_is_the_network_that_was_trained(made, store):
    champion = load_champion(MODEL, store)
    images = 1e4 * torch.rand(3, 2, 16, 16)
    kind = {"head": "gaussian", "family": "apertures", "layers": (), "hidden": 5}
    expected = small(**kind).eval()(images)
    torch.testing.assert_close(champion.network(images), expected, rtol=1e-5, atol=1e-4)
    assert (champion.survey, champion.validity) == (made[1].survey, VALIDITY)
    np.testing.assert_array_equal(champion.grid_mpc, GRID)
    assert champion.flat


def survey(**changes):
    return lambda tags: json.dumps(json.loads(tags["survey"]) | changes)


NOT_JSON = ["{", "[" * 100_000, "nothing"]
FAULTS = [
    ("sigma_D_mpc", "-3", "sigma_D_mpc: Input should be greater than 0"),
    ("sigma_D_mpc", "0", "sigma_D_mpc: Input should be greater than 0"),
    ("sigma_D_mpc", "nan", "sigma_D_mpc: Input should be a finite number"),
    ("sigma_D_mpc", "inf", "sigma_D_mpc: Input should be a finite number"),
    ("sigma_D_mpc", "five", "sigma_D_mpc: Input should be a valid number"),
    ("sigma_D_mpc", "", "sigma_D_mpc: Input should be a valid number"),
    ("sigma_D_mpc", "6", "sigma_D_mpc is 6.0, and its network was trained with 5.0"),
    ("sigma_D_mpc", None, "sigma_D_mpc: key is missing"),
    ("survey", survey(sigma_v_kms=0), "survey.sigma_v_kms: Input should be greater than 0"),
    ("survey", survey(sigma_v_kms=-400), "survey.sigma_v_kms: Input should be greater than 0"),
    ("survey", survey(sigma_v_kms=float("nan")), "survey.sigma_v_kms: Input should be a finite"),
    ("survey", survey(sigma_v_kms=300), "survey.sigma_v_kms is 300.0, and its network was"),
    ("survey", survey(H0_kms_mpc=0), "survey.H0_kms_mpc: Input should be greater than 0"),
    ("survey", survey(H0_kms_mpc=50), "survey.H0_kms_mpc is 50.0, and its network was trained"),
    ("survey", survey(bands=["r", "g"]), r'survey.bands is \["r", "g"\], and its network was'),
    ("survey", survey(bands=["g", "g"]), "survey: a band is listed twice in gg"),
    ("survey", survey(bands=["g", "J"]), "survey.bands.1: Input should be 'u'"),
    ("survey", survey(bands=["g"]), r'survey.bands is \["g"\], and its network was trained wi'),
    ("survey", survey(pixels=32), "survey.pixels is 32, and its network was trained with 16"),
    ("survey", survey(pixel_scale_arcsec=0), "survey.pixel_scale_arcsec: Input should be greater"),
    ("survey", survey(pixel_scale_arcsec=0.4), "survey.pixel_scale_arcsec is 0.4, and its network"),
    ("survey", survey(dimming="literal"), 'survey.dimming is "literal", and its network was'),
    ("survey", survey(source="SDSS"), 'survey.source is "SDSS", and its network was trained'),
    ("survey", survey(code="evil"), "survey.code: unknown key"),
    ("survey", "{}", "survey.dataset: key is missing"),
    ("survey", "", "survey: Input should be a valid dictionary"),
    ("survey", None, "survey: key is missing"),
    ("grid_mpc", "", "grid_mpc is null, and its network was trained with"),
    ("grid_mpc", "[50, 60]", r"grid_mpc is \[50.0, 60.0\], and its network was trained with"),
    ("grid_mpc", "{}", "grid_mpc: Input should be a valid tuple"),
    ("grid_mpc", '["x", 1]', "grid_mpc.0: Input should be a valid number"),
    ("grid_mpc", None, "grid_mpc: key is missing"),
    ("validity", "", "validity is null, and its network was trained with"),
    ("validity", '{"prior": "flat"}', "validity.distance_mpc: key is missing"),
    ("validity", None, "validity: key is missing"),
    *[
        (key, text, f"{key} is not valid JSON")
        for key in ("survey", "validity")
        for text in NOT_JSON
    ],
]


@pytest.mark.parametrize(("key", "value", "reason"), FAULTS)
def test_a_tag_that_is_not_valid_is_refused_by_its_key(made, store, key, value, reason):
    client = mlflow.MlflowClient()
    if value is None:
        client.delete_model_version_tag(MODEL, "1", key)
    else:
        text = value if isinstance(value, str) else value(made[2])
        client.set_model_version_tag(MODEL, "1", key, text)
    match = rf"^version 1 of peculiar-velocity: tag\.? ?{reason}.*: restore MLflow's database, or"
    with pytest.raises(InputError, match=match) as refusal:
        load_champion(MODEL, store)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, ""])
@pytest.mark.usefixtures("store")
def test_a_damaged_history_is_refused_by_its_tag(text):
    mlflow.MlflowClient().set_registered_model_tag(MODEL, "history.0001", text)
    with pytest.raises(
        InputError, match=r"tag history\.0001 of peculiar-velocity is damaged: rest"
    ):
        models.history(MODEL)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "\u0663", "9" * 5000])
@pytest.mark.usefixtures("store")
def test_a_comparison_that_is_no_number_is_refused(text):
    mlflow.MlflowClient().set_model_version_tag(MODEL, "1", "comparison", text)
    with pytest.raises(InputError, match=r"version 1 of peculiar-velocity: tag comparison is '"):
        ledger.read(MODEL)


# what would execute something of a file, and what only that needs
WATCH = """
import json, sys
import mlflow, pickle, torch, torch.export
from peculiar.cli.main import main
def refuse(*arguments, **_):
    raise SystemExit(f"loads {arguments}")
def watch(event, arguments):
    if event == "pickle.find_class":
        raise SystemExit(f"{event} {arguments}")
torch.load = torch.export.load = torch.jit.load = pickle.load = pickle.loads = refuse
sys.addaudithook(watch)
for command in json.loads(sys.argv[1]):
    main(command)
machinery = {"sympy", "torch._dynamo", "torch._export.serde.serialize", "mlflow.pytorch",
             "mlflow.pyfunc"} & set(sys.modules)
assert not machinery, machinery
"""


def watched(folder, code, *arguments):
    """Run code in a process that ends when something of a file is executed."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def export(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "registry"
    exchange.export(MODEL, folder, made[0])
    return folder


@pytest.mark.slow
def test_import_and_predict_execute_nothing_and_load_no_machinery_for_it(export, tmp_path):
    make_broadband(tmp_path / "galaxy.fits", 5, small_standin())
    commands = [
        ["registry", "import", str(export)],
        ["predict", "galaxy.fits", "--at", "60", "--cz", "5000"],
    ]
    done = watched(tmp_path, WATCH, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert "champion version 1" in done.stdout


@pytest.mark.slow
def test_the_watch_notices_what_is_executed(tmp_path):
    """As `torch.load` would, and a pickle by any other way."""
    pickled = "cpathlib\nPath\n(Vowned\ntR."
    calls = (
        "import _pickle; _pickle.loads(sys.argv[2].encode())",
        "torch.export.load('any')",
        "import torch._dynamo",
    )
    # main(command) ends by SystemExit, as the watch does
    trial = "try: exec(command)\n    except SystemExit as told: print(told, file=sys.stderr)"
    code = WATCH.replace("main(command)", trial)
    done = watched(tmp_path, code, json.dumps(calls), pickled)
    assert done.returncode == 1
    for told in ("pickle.find_class", "loads ('any',)", "'torch._dynamo'"):
        assert told in done.stderr


LOADERS = re.compile(
    r"(torch|export|jit|pickle|cloudpickle|joblib|dill|marshal)\.loads?|eval|exec|__import__"
    r"|(mlflow|pytorch|pyfunc|models)\.load_model|.*runpy\..*|.*\.exec_module"
)


def test_no_source_of_ours_loads_a_program():
    """`serve` exports one; MLflow's server, another process, loads it."""
    for path in Path(exchange.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                last_two = ".".join(called.split(".")[-2:])
                assert not LOADERS.fullmatch(last_two), f"{path}: {called}"
            elif isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
                assert names.isdisjoint({"pickle", "cloudpickle", "joblib", "dill", "marshal"})
