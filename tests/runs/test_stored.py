"""A network in the registry is data: it comes back as it was, and anything else is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from builders.networks import small, small_blueprint
from builders.surveys import make_survey
from peculiar.core.errors import InputError
from peculiar.runs import stored
from peculiar.runs.blueprint import Blueprint
from peculiar.runs.validity import Validity
from peculiar.runs.weights import WEIGHTS

KINDS = [
    {},
    {"head": "binned", "members": 2, "average_turns": True},
    {"head": "gaussian", "family": "pyramid", "hidden": 5, "crop": 12},
    {"head": "gaussian", "family": "apertures", "layers": (), "hidden": 5},
    {"head": "gaussian", "family": "starlet", "layers": (), "hidden": 5},
]
VALIDITY = {"distance_mpc": (50, 100), "mag_ab": {}, "half_light_arcsec": (1, 2)}


@pytest.fixture
def folder(tmp_path):
    kind = {"head": "gaussian", "batch_norm": True}
    stored.write_model(tmp_path, small(**kind), small_blueprint(**kind))
    return tmp_path


@pytest.mark.parametrize("changes", KINDS, ids=lambda kind: kind.get("family", kind.get("head")))
def test_a_network_comes_back_ready_to_predict(tmp_path, changes):
    network, blueprint = small(**changes), small_blueprint(**changes)
    network.train()(1e4 * torch.rand(4, 2, 16, 16))  # moves the running means
    stored.write_model(tmp_path, network, blueprint)
    back = stored.read_model(tmp_path, "it")
    assert back.blueprint == blueprint
    images = 1e4 * torch.rand(3, 2, 16, 16)
    for name, weights in network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], weights)
    # rounding depends on where the weights are in memory
    expected = network.eval()(images)
    torch.testing.assert_close(back.network(images), expected, rtol=1e-5, atol=1e-4)
    assert not back.network.training
    assert not any(weight.requires_grad for weight in back.network.parameters())


def test_the_model_of_a_failed_training_is_written_and_not_read(tmp_path):
    network = small()
    network.offset_mpc.fill_(torch.nan)
    stored.write_model(tmp_path, network, small_blueprint(sigma_D_mpc=float("nan")))
    with pytest.raises(
        InputError, match=r"it: weights\.safetensors .*\(offset_mpc is not finite\)"
    ):
        stored.read_model(tmp_path, "it")


def write_code(folder):
    (folder / "code").mkdir()
    (folder / "code/evil.py").write_text("open('owned', 'w')")


def link_weights(folder):
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (write_code, "it has code, which is no part of a model: train and promote it again"),
        (link_weights, r"it has weights\.safetensors, which is no part of a model"),
        (lambda f: (f / "conda.yaml").write_text(""), r"it has conda\.yaml, which is no part"),
        (
            lambda f: (f / "data.pkl").write_text(""),
            r"it is pickled \(data\.pkl\) and is not",
        ),
        (lambda f: (f / "network.json").unlink(), r"it has no network\.json: train and promote"),
        (lambda f: (f / "MLmodel").unlink(), "it has no MLmodel: train and promote it again"),
        (
            lambda f: (f / "network.json").write_bytes(b"\xff"),
            r"network\.json or MLmodel is not",
        ),
    ],
)
def test_another_file_a_link_and_a_missing_file_are_refused(tmp_path, change, reason):
    folder = tmp_path / "model"
    folder.mkdir()
    stored.write_model(folder, small(), small_blueprint())
    change(folder)
    with pytest.raises(InputError, match=reason):
        stored.read_model(folder, "it")


PYTHON = "  python_function:\n    loader_module: evil\n    code: code\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.replace("flavors:\n", f"flavors:\n{PYTHON}"), "line 2 .*'python_function:'"),
        (lambda t: t.replace("peculiar", "pytorch"), "line 2 of MLmodel, 'pytorch:', is not what"),
        (lambda t: t.replace("[-1, 2, 16, 16]", "[-1, 2, 16, 8]"), "line 6 of MLmodel"),
        (lambda t: t + "code: code\n", "line 9 of MLmodel, 'code: code', is not what peculiar"),
        (lambda t: t + "\n", "line 9 of MLmodel, '', is not what"),
        (lambda t: t[:-20], "line 7 of MLmodel"),
        (lambda t: t.rstrip(), "MLmodel is cut off"),
        (lambda _: "", "MLmodel is cut off"),
    ],
)
def test_an_mlmodel_that_names_a_loader_or_code_is_refused(folder, change, reason):
    path = folder / stored.MLMODEL
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=rf"it: {reason}.*: train and promote it again"):
        stored.read_model(folder, "it")


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (["survey", "bands"], ["g", "g"], "survey: a band is listed twice in gg"),
        (["survey", "bands"], ["g", "J"], r"survey\.bands\.1: Input should be 'u', 'g'"),
        (["survey", "bands"], [], r"survey\.bands: Tuple should have at least 1 item"),
        (["survey", "pixels"], 0, r"survey\.pixels: Input should be greater than 0"),
        (["survey", "pixel_scale_arcsec"], -1, r"survey\.pixel_scale_arcsec: Input should be g"),
        (["survey", "pixel_scale_arcsec"], float("nan"), r"survey\.pixel_scale_arcsec: Input"),
        (["survey", "sigma_v_kms"], 0, r"survey\.sigma_v_kms: Input should be greater than 0"),
        (["survey", "H0_kms_mpc"], float("inf"), r"survey\.H0_kms_mpc: Input should be a finite"),
        (["survey", "dataset"], "x; touch owned", r"survey\.dataset: String should match"),
        (["spec", "family"], "evil", r"spec\.family: Input should be 'cnn'"),
        (["spec", "code"], "evil", r"spec\.code: unknown key: remove it or correct its name"),
        (["grid_mpc"], None, "grid_mpc must be set for heads that give distributions"),
        (["grid_mpc"], [], "grid_mpc must list two distances or more, in ascending order"),
        (["grid_mpc"], [60.0], "grid_mpc must list two distances or more, in ascending order"),
        (["grid_mpc"], [60.0, 50.0], "grid_mpc must list two distances or more, in ascending"),
        (["grid_mpc"], [50.0, float("inf")], "grid_mpc must list two distances or more"),
        (["validity"], VALIDITY, "validity must have the bands gr"),
        (["validity"], VALIDITY | {"half_light_arcsec": [2, 1]}, "least value must not be above"),
        (["code"], "evil", r"code: unknown key: remove it or correct its name"),
    ],
)
def test_a_value_that_is_not_valid_is_refused_by_its_key(folder, keys, value, reason):
    path = folder / stored.NETWORK
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"it: network\.json.*{reason}.*: train and promote"):
        stored.read_model(folder, "it")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "{}"])
def test_a_damaged_blueprint_is_refused(folder, text):
    (folder / stored.NETWORK).write_text(text)
    with pytest.raises(InputError, match=r"it: network\.json.*: train and promote it again"):
        stored.read_model(folder, "it")


def without(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def changed(name, change):
    return lambda tensors: tensors | {name: change(tensors[name]).contiguous()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("head.sharpness"), "Missing key.*head.sharpness"),
        (lambda t: t | {"evil": torch.zeros(1)}, "Unexpected key.*evil"),
        (changed("bodies.0.0.weight", lambda w: w[:2]), r"bodies\.0\.0\.weight has the shape \(2,"),
        (changed("head.sharpness", lambda w: w[None]), r"head\.sharpness has the shape \(1,\)"),
        (
            changed("bodies.0.0.bias", torch.Tensor.double),
            ".*bias is torch.float64, not",
        ),
        (changed("bodies.0.0.bias", torch.Tensor.half), ".*bias is torch.float16, not"),
        (changed("bodies.0.0.bias", lambda w: w + torch.inf), ".*bias is not finite"),
        (changed("head.log_prior", lambda w: w * torch.nan), r"head\.log_prior is not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder, change, reason):
    path = folder / WEIGHTS
    save_file(change(load_file(path)), path)
    with pytest.raises(
        InputError,
        match=rf"it: weights\.safetensors does not hold this network \({reason}.*\): train and",
    ) as refusal:
        stored.read_model(folder, "it")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 64, b"PK\x03\x04" * 9])
def test_damaged_weights_are_refused(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(InputError, match=r"it: weights\.safetensors does not hold this network"):
        stored.read_model(folder, "it")


def test_weights_of_another_grid_are_refused(folder):
    path = folder / WEIGHTS
    tensors = load_file(path)
    save_file(tensors | {"head.grid_mpc": tensors["head.grid_mpc"] + 1}, path)
    with pytest.raises(InputError, match=r"it: grid_mpc of network\.json is not that of weights"):
        stored.read_model(folder, "it")


def test_a_blueprint_comes_from_a_network():
    changes = {"head": "binned"}
    spec = small_blueprint(**changes).spec
    survey = make_survey(bands=("g", "r"), pixels=16)
    made = Blueprint.of(small(**changes), survey, spec, 1, 5.0)
    assert made == small_blueprint(**changes)
    point = Blueprint.of(small(), survey, small_blueprint().spec, 1, 5.0)
    assert point == small_blueprint()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ({"filters": 10**6, "kernel": 3, "stride": 1}, "cannot be built: train and promote"),
        ({"filters": 3, "kernel": 50, "stride": 3}, r"shrink 16 pixels to nothing: .*train and"),
    ],
    ids=["memory", "pixels"],
)
def test_a_network_that_cannot_be_built_is_refused(folder, layer, reason):
    path = folder / stored.NETWORK
    values = json.loads(path.read_text())
    values["spec"]["layers"] = [layer] * 2
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"it: network\.json: .*{reason}"):
        stored.read_model(folder, "it")


def test_ranges_are_in_order():
    with pytest.raises(ValueError, match="the least value must not be above the greatest"):
        Validity(**(VALIDITY | {"distance_mpc": (100, 50)}))
