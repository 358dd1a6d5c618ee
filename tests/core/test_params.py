"""params.yaml: every key is needed, no other is taken, and each fault is one clear sentence."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from peculiar.core.errors import InputError
from peculiar.core.params import STAGES, load, validate
from peculiar.core.photometry import GAUSSIAN_FWHM
from peculiar.galaxies.params import Fetch
from peculiar.mock.kernels import PSF_REACH
from peculiar.mock.params import Observe
from peculiar.mock.resample import kpc_per_arcsec
from peculiar.nulls.params import Nulls
from peculiar.pipeline.evaluate import Evaluate
from peculiar.registry.params import Promote
from peculiar.search.params import Search
from peculiar.training.params import Train

ROOT = Path(__file__).parents[2]
SHIPPED = yaml.safe_load((ROOT / "params.yaml").read_text())
# their keys are names of our choice
NAMED = {("observe", name) for name in ("distances", "readings", "instruments")} | {
    ("train", "specs")
}
SECTIONS = {
    section.__name__.lower(): section
    for section in (Fetch, Observe, Search, Train, Evaluate, Nulls, Promote)
}
EXPLAINED = {"seed", "train", "validation", "test"}  # parameters that need no comment


def walk(values, above=()):
    """Path and value of everything inside `values`."""
    inside = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in inside:
        yield (*above, key), value
        if isinstance(value, dict | list):
            yield from walk(value, (*above, key))


def at(values, path):
    for key in path:
        values = values[key]
    return values


def dotted(path):
    return ".".join(map(str, path))


def parse(key):
    return tuple(int(part) if part.isdigit() else part for part in key.split("."))


def check(values, section):
    return validate(SECTIONS[section], values[section], f"params.yaml: {section}")


def refusal(values, section):
    """Key and reason of the refusal, which is one line."""
    with pytest.raises(InputError) as refused:
        check(values, section)
    message = str(refused.value)
    assert "\n" not in message
    where, _, reason = message.removeprefix("params.yaml: ").partition(": ")
    return where, reason


def case(path, *more):
    """A test case, named for its key."""
    return pytest.param(path, *more, id="-".join([dotted(path), *map(str, more[:1])]))


PATHS = list(walk(SHIPPED))
KEYS = [p for p, _ in PATHS if len(p) > 1 and isinstance(p[-1], str) and p[:-1] not in NAMED]
MAPPINGS = [p for p, value in PATHS if isinstance(value, dict) and p not in NAMED]


def test_the_walk_meets_every_kind_of_key():
    assert {"fetch.standin.seed", "observe.distances.normal.min_mpc"} <= set(map(dotted, KEYS))
    assert {"train.specs.cnn5.layers.4.stride", "promote.model"} <= set(map(dotted, KEYS))
    assert {"train.specs.pyramid.ema", "train.specs.resnet50.crop"} <= set(map(dotted, KEYS))


@pytest.mark.parametrize("name", SECTIONS)
def test_the_shipped_file_loads(params_file, name):
    section = load(SECTIONS[name], params_file)
    assert section == check(SHIPPED, name)
    assert section.model_dump(mode="json").keys() == SHIPPED[name].keys()


def test_what_stands_below_an_anchor_is_taken_over_unless_it_is_said_anew():
    specs, best = SHIPPED["train"]["specs"], SHIPPED["train"]["best"]
    whole = {*best, "layers", "learning_rate"}
    assert {name: set(spec) for name, spec in specs.items()} == dict.fromkeys(specs, whole)
    taken = {name: {key for key in best if spec[key] != best[key]} for name, spec in specs.items()}
    for name in ("cnn2", "cnn3", "cnn4", "cnn5"):
        assert taken[name] == {"batch_norm", "augment", "schedule"}
    for name in ("resnet18", "resnet50"):
        assert taken[name] == {"family", "augment", "schedule", "epochs"}
    assert {"family", "head", "hidden", "fresh"} <= taken["pyramid"]
    assert {"family", "head", "hidden", "fresh", "dropout", "views"} <= taken["starlet"]


def test_dvc_reads_the_same_values(params_file):
    """DVC has a YAML parser of its own, which must know of anchors, merge keys and exponents."""
    from dvc.utils.serialize import load_yaml

    assert load_yaml(str(params_file)) == SHIPPED


def test_every_stage_has_a_section():
    assert tuple(SECTIONS) == STAGES


def test_fresh_images_do_not_show_the_end_of_the_raw_ones():
    """An edge at a fixed number of kpc would be a ruler."""
    observe, standin = validate(Observe, SHIPPED["observe"], ""), SHIPPED["fetch"]["standin"]
    reach = PSF_REACH * observe.psf_fwhm_arcsec / observe.pixel_scale_arcsec / GAUSSIAN_FWHM
    side_arcsec = (observe.pixels + 2 * reach) * observe.pixel_scale_arcsec
    for spec in load(Train, ROOT / "params.yaml").specs.values():
        if spec.fresh_mpc is not None:
            frame_kpc = side_arcsec * kpc_per_arcsec(spec.fresh_mpc[1])
            assert frame_kpc < standin["field_of_view_kpc"]


def test_the_shipped_sections_fit_each_other():
    known = set(SHIPPED["observe"]["datasets"])
    assert set(SHIPPED["train"]["datasets"]) <= known
    assert SHIPPED["search"]["dataset"] in known


@pytest.mark.parametrize(
    ("path", "misspelt"), [case(path, misspelt) for path in KEYS for misspelt in (False, True)]
)
def test_each_key_is_needed(shipped, path, misspelt):
    parent, key = at(shipped, path[:-1]), path[-1]
    value = parent.pop(key)
    if misspelt:
        parent[f"{key}_"] = value
    where, reason = refusal(shipped, path[0])
    if key == "distribution":
        assert where == dotted(path[:-1])
        assert "'distribution'" in reason
    else:
        assert (where, reason) == (dotted(path), "key is missing: add it")


@pytest.mark.parametrize("path", [case(path) for path in MAPPINGS])
def test_no_other_key_is_taken(shipped, path):
    at(shipped, path)["sedd"] = 1
    where, reason = refusal(shipped, path[0])
    assert where == f"{dotted(path)}.sedd"
    assert reason == "unknown key: remove it or correct its name"


LAYERS = "train.specs.cnn2.layers"
WRONG = [
    ("fetch.source", "web", "'standin', 'files', 'illustris', 'skirt' or 'nsa'"),
    ("fetch.bands", ["u", "y"], "'u', 'g', 'r', 'i' or 'z'"),
    ("fetch.bands", [], "at least 1 item"),
    ("fetch.shard_galaxies", 0, "greater than 0"),
    ("fetch.standin.seed", -1, "greater than or equal to 0"),
    ("fetch.standin.galaxies", 2.5, "fractional part"),
    ("fetch.standin.galaxies", "many", "valid integer"),
    ("fetch.standin.pixels", 15, "greater than or equal to 16"),
    ("fetch.standin.resolution_factor", 0.9, "greater than or equal to 1"),
    ("fetch.standin.field_of_view_kpc", float("nan"), "finite number"),
    ("fetch.standin.field_of_view_radii", 0, "greater than 0"),
    ("fetch.standin.particle_mass_msun", float("inf"), "finite number"),
    ("fetch.standin.log10_mass_min", 12.5, "log10_mass_min must be below log10_mass_max"),
    ("fetch.standin.size_scatter", -0.1, "greater than or equal to 0"),
    ("fetch.standin.neighbours", None, "valid integer"),
    ("fetch.files.folder", None, "path"),
    ("fetch.illustris.url", "ftp://x/api", "match pattern"),
    ("fetch.illustris.url", "http://x/api?api_key=1", "match pattern"),
    ("fetch.illustris.url", "http://key@x/api", "match pattern"),
    (
        "fetch.illustris.url",
        "http://x:99999/api",
        r"no valid URL \(Failed to parse: http://x:99999/api\): correct it",
    ),
    ("fetch.illustris.url", "http://[bad/api", "'.bad' is not a valid host or port"),
    ("fetch.illustris.url", "http://www.x.org/api", "would send the API key in clear text: use h"),
    ("fetch.illustris.url", "http://127.0.0.1.x.org/api", "would send the API key in clear text"),
    ("fetch.illustris.simulation", "TNG100-1", "'Illustris-1', 'Illustris-2' or 'Illustris-3'"),
    ("fetch.illustris.snapshot", 134, "should be 135"),
    ("fetch.illustris.galaxies", 0, "greater than 0"),
    ("fetch.illustris.connections", 0, "greater than or equal to 1"),
    ("fetch.illustris.connections", 99, "less than or equal to 16"),
    ("fetch.illustris.attempts", 1, "greater than or equal to 2"),
    ("fetch.illustris.timeout_s", 0, "greater than 0"),
    ("fetch.skirt.pixels", 0, "greater than 0"),
    ("fetch.nsa.folder", None, "path"),
    ("observe.instrument", "lsst", "no instrument is called 'lsst': take one of sdss"),
    ("observe.instruments.sdss.psf", "airy", "'moffat' or 'gaussian'"),
    ("observe.instruments.sdss.moffat_beta", 1, "greater than or equal to 2"),
    ("observe.instruments.sdss.fwhm_arcsec.r", 0, "greater than 0"),
    ("observe.instruments.sdss.gain.r", -1, "greater than 0"),
    ("observe.instruments.sdss.dark_variance.r", -1, "greater than or equal to 0"),
    ("observe.instruments.sdss.sky_mag_arcsec2.r", float("nan"), "finite number"),
    ("observe.distances.measured.distribution", "guessed", "'guessed'"),
    ("observe.datasets", [], "at least 1 item"),
    ("observe.datasets", ["uniform", "uniform"], "a dataset is repeated in"),
    ("observe.datasets", ["flat"], "no dataset is called 'flat': take one of uniform, normal"),
    ("observe.distances.uniform.min_mpc", 100, "min_mpc must be below max_mpc"),
    ("observe.distances.uniform.min_mpc", -5, "greater than 0"),
    ("observe.distances.normal.min_mpc", 75, "min_mpc must be below mean_mpc"),
    ("observe.distances.normal.sigma_mpc", 0, "greater than 0"),
    ("observe.distances.normal.distribution", "cauchy", "'cauchy'"),
    ("observe.H0_kms_mpc", 0, "greater than 0"),
    ("observe.sigma_v_kms", float("nan"), "finite number"),
    ("observe.pixels", -128, "greater than 0"),
    ("observe.pixel_scale_arcsec", float("inf"), "finite number"),
    ("observe.scale", "file", "'header' or 'paper'"),
    ("observe.readings", {"flat": {}}, "key is missing"),
    (
        "observe.readings",
        {"flat": {"scale": "paper", "dimming": "literal", "psf_fwhm_arcsec": None}},
        "no dataset is called 'flat': take one of uniform, normal",
    ),
    ("observe.readings.paper-uniform.scale", "file", "'header' or 'paper'"),
    ("observe.datasets", ["paper-"], "match pattern"),
    ("observe.dimming", "cubic", "'physical' or 'literal'"),
    ("observe.split.by", "camera", "'galaxy' or 'image'"),
    ("observe.split.train", 0.6, "train, validation and test must add up to 1"),
    ("observe.split.test", 0, "greater than 0"),
    ("observe.split.test", 1, "less than 1"),
    ("search.dataset", "a b", "match pattern"),
    ("search.trials", 0, "greater than 0"),
    ("search.space.depth", [], "at least 1 item"),
    ("search.space.kernel", [3, 0], "greater than 0"),
    ("search.space.kernel", [3, 3], r"a value is listed twice in \[3, 3\]"),
    ("search.space.learning_rate", {"low": 1e-2, "high": 1e-4}, "low must be below high"),
    ("search.space.learning_rate", {"low": 1e-4}, "key is missing"),
    ("search.space.learning_rate", [], "at least 1 item"),
    ("search.space.weight_decay", [-1.0], "greater than 0"),
    ("search.space.batch_size", [1], "greater than or equal to 2"),
    ("search.space.head", ["normal"], "'point', 'gaussian' or 'binned'"),
    (
        "search.space.family",
        ["vgg"],
        "'starlet', 'apertures', 'resnet18' or 'resnet50'",
    ),
    (
        "search.space.family",
        ["pyramid"],
        "a starlet and apertures need hidden units: list some",
    ),
    ("search.objectives", ["parameters"], r"objectives are \[l2\], \[l2, parameters\] or"),
    ("search.objectives", ["l2", "l2"], r"objectives are \[l2\], \[l2, parameters\] or"),
    ("search.sampler", "gp", "gp needs a space of one depth and one family"),
    ("search.sampler", "qmc", "qmc needs a space of one depth and one family"),
    ("search.sampler", "grid", "a grid has lists of values and no low and high"),
    ("search.pruner", "median", "median compares epochs: it needs 3 or more"),
    ("search.pruner", "wilcoxon", "wilcoxon compares seeds, .* it needs 5 seeds or more"),
    ("search.space.max_multiply_adds", -1, "greater than 0"),
    ("train.networks", ["cnn9"], "no network is called 'cnn9': take one of cnn2, "),
    ("train.networks", ["cnn2", "cnn2"], "a network is repeated in"),
    ("train.specs.cnn2.label", "z", "'D' or 'D_z'"),
    ("train.best.normalise", "perhaps", "valid boolean"),
    ("train.best.family", "resnet18", "'cnn'"),
    ("train.best.hidden", 64, "Input should be 0"),
    ("train.best.members", 3, "members and average_turns need head gaussian or binned"),
    ("train.specs.cnn2.batch_size", 1, "greater than or equal to 2"),
    (
        "train.specs.cnn2.family",
        "vgg",
        "'starlet', 'apertures', 'resnet18' or 'resnet50'",
    ),
    ("train.specs.cnn2.head", "normal", "'point', 'gaussian' or 'binned'"),
    ("train.specs.cnn2.members", 2, "members and average_turns need head gaussian or binned"),
    ("train.specs.cnn2.members", 0, "greater than 0"),
    ("train.specs.cnn2.average_turns", True, "members and average_turns need head gaussian or"),
    ("train.specs.cnn2.hidden", 8, r"other families have none \(hidden: 0\)"),
    ("train.specs.resnet18.hidden", 8, r"other families have none \(hidden: 0\)"),
    ("train.specs.starlet.hidden", 0, "a pyramid, a starlet and apertures need hidden units"),
    ("train.specs.starlet.augment", True, "starlet is the same for all turns"),
    ("train.specs.starlet.average_turns", True, "starlet is the same for all turns"),
    ("train.specs.starlet.dropout", 1, "less than 1"),
    ("train.specs.starlet.views", 0, "greater than 0"),
    ("train.specs.starlet.calibration_folds", 1, "calibration_folds 1 leaves nothing to learn"),
    ("train.specs.starlet.calibration_folds", -1, "greater than or equal to 0"),
    ("train.specs.starlet.fresh", False, "views are fresh distances: set fresh: true"),
    ("train.specs.cnn2.loss", "l1", "'absolute' or 'fractional'"),
    ("train.specs.starlet.loss", "fractional", "loss fractional is of distances: set head: point"),
    ("train.specs.starlet.rounds", 2, "rounds correct fixed labels D_z of head point"),
    ("train.specs.cnn2.rounds", 0, "greater than 0"),
    ("train.specs.cnn2.kernels", True, "kernels are drawn for fresh distances: set fresh: true"),
    ("train.specs.cnn2.fresh_mpc", [30, 130], "fresh_mpc limits fresh distances: set fresh: true"),
    ("train.specs.starlet.fresh_mpc", [130, 30], r"fresh_mpc must be \[low, high\] with low below"),
    ("train.specs.starlet.fresh_mpc", [0, 30], "greater than 0"),
    ("train.specs.cnn2.kernels", "some", "valid boolean"),
    ("train.specs.pyramid.dropout", 0.1, "only a starlet and apertures have dropout"),
    ("train.best.dropout", 0.1, "Input should be 0"),
    ("train.specs.cnn2.crop", 0, "greater than 0"),
    ("train.specs.cnn2.softening_mag_arcsec2", 0, "greater than 0"),
    ("train.specs.cnn2.fresh", "sometimes", "valid boolean"),
    ("train.specs.cnn2.schedule", "linear", "'constant', 'cosine' or 'onecycle'"),
    ("train.specs.cnn2.weight_decay", -0.01, "greater than or equal to 0"),
    ("train.specs.cnn2.ema", 1, "less than 1"),
    ("train.specs.cnn2.ema", -0.1, "greater than or equal to 0"),
    ("train.specs.cnn2.patience", 0, "greater than 0"),
    ("train.specs.pyramid.layers", [], "a cnn and a pyramid need layers"),
    ("train.specs.pyramid.hidden", 0, "a pyramid, a starlet and apertures need hidden units"),
    ("train.specs.pyramid.hidden", -8, "greater than or equal to 0"),
    ("train.specs.pyramid.head", None, "'point', 'gaussian' or 'binned'"),
    ("train.specs.cnn2.learning_rate", 0, "greater than 0"),
    ("train.specs.cnn2.epochs", 0, "greater than 0"),
    (LAYERS, [], "a cnn and a pyramid need layers, other families have their own"),
    (
        "train.specs.resnet18.layers",
        SHIPPED["train"]["specs"]["cnn2"]["layers"],
        "other families have",
    ),
    (f"{LAYERS}.0.kernel", 0, "greater than 0"),
    (f"{LAYERS}.1.stride", 0, "greater than 0"),
    (f"{LAYERS}.1.filters", -3, "greater than 0"),
    ("evaluate.bootstrap", 9, "greater than or equal to 10"),
    ("promote.model", "a/b", "match pattern"),
]


@pytest.mark.parametrize(
    ("path", "value", "words"), [case(parse(key), value, words) for key, value, words in WRONG]
)
def test_wrong_values_are_refused(shipped, path, value, words):
    at(shipped, path[:-1])[path[-1]] = value
    where, reason = refusal(shipped, path[0])
    assert re.search(words, reason)
    assert f"{where}.".startswith(f"{dotted(path)}.") or f"{dotted(path)}.".startswith(f"{where}.")


@pytest.mark.parametrize("key", ["observe.split", "observe.distances", "train.best", "train.specs"])
@pytest.mark.parametrize("value", [None, 3, "text", []])
def test_a_section_must_be_a_mapping(shipped, key, value):
    section, name = key.split(".")
    shipped[section][name] = value
    with pytest.raises(InputError, match=f"{key}: "):
        check(shipped, section)


def test_sections_are_frozen(params_file):
    params = load(Observe, params_file)
    for section, key in ((params, "seed"), (params.split, "train"), (params, "other")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 1)


def write(path, text):
    path.write_text(text)
    return path


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"params\.yaml is missing: run from the top of the repo"):
        load(Fetch, tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("fetch: {seed: 1, seed: 2}", "seed"),
        ("promote:\n  seed: 1\npromote:\n  seed: 2\n", "promote"),
        ("fetch: {a: &x {seed: 1}, b: {<<: *x, seed: 2, pixels: 1, pixels: 1}}", "pixels"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, key):
    with pytest.raises(
        InputError, match=rf"not valid YAML: the key '{key}' stands twice in .*, line"
    ):
        load(Fetch, write(tmp_path / "params.yaml", text))


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\tfetch: 1"])
def test_what_is_no_yaml_is_refused_in_one_line(tmp_path, text):
    with pytest.raises(InputError, match="is not valid YAML: ") as refusal:
        load(Fetch, write(tmp_path / "params.yaml", text))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "- fetch", "just text"])
def test_a_file_without_sections_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="must hold the sections fetch, observe, search"):
        load(Fetch, write(tmp_path / "params.yaml", text))


def test_unknown_and_missing_sections_are_refused(tmp_path, shipped):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(shipped | {"fech": {}}))
    with pytest.raises(InputError, match="unknown section 'fech'; take fetch, observe"):
        load(Evaluate, path)
    del shipped["evaluate"]
    path.write_text(yaml.safe_dump(shipped))
    with pytest.raises(InputError, match="the section 'evaluate' is missing: add it"):
        load(Evaluate, path)


def test_faults_name_file_and_key(tmp_path, shipped):
    shipped["evaluate"]["seed"] = -1
    path = write(tmp_path / "other.yaml", yaml.safe_dump(shipped))
    with pytest.raises(InputError, match=re.escape(f"{path}: evaluate.seed: Input should be")):
        load(Evaluate, path)


def test_every_network_is_trained_on_every_dataset_and_best_is_last(shipped):
    shipped["train"] |= {"datasets": ["a", "b"], "networks": ["cnn3", "cnn2"]}
    assert validate(Train, shipped["train"], "train").items() == [
        (dataset, network) for dataset in "ab" for network in ("cnn3", "cnn2", "best")
    ]


def test_best_is_completed_by_the_search():
    params = check(SHIPPED, "train")
    layers = SHIPPED["train"]["specs"]["cnn2"]["layers"]
    spec = params.best.complete({"layers": layers, "learning_rate": 1e-3})
    assert spec.layers == params.specs["cnn2"].layers
    assert (spec.learning_rate, spec.epochs) == (1e-3, params.best.epochs)
    assert spec.model_dump() == params.best.model_dump() | {
        "layers": tuple(layers),
        "learning_rate": 1e-3,
    }
    trial = params.best.complete({"layers": layers, "learning_rate": 1e-3}, epochs=2)
    assert (trial.epochs, trial.calibration_folds) == (2, 0)


def test_every_key_of_the_file_is_explained(params_file):
    explained_above = []  # (indent, has a comment) of the blocks around a line
    bare = []
    for line in params_file.read_text().splitlines():
        line_of_key = re.match(r"( *)(\w+):(.*)", line)
        if not line_of_key:
            continue
        indent, key, rest = len(line_of_key[1]), line_of_key[2], line_of_key[3]
        explained_above = [block for block in explained_above if block[0] < indent]
        comment = "#" in rest
        if not re.sub(r"&\w+", "", rest.split("#")[0]).strip():
            explained_above.append((indent, comment))
        elif not (comment or key in EXPLAINED or any(told for _, told in explained_above)):
            bare.append(line.strip())
    assert not bare
