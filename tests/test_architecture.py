"""Who may import what, and that DVC knows of every module that a stage runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from peculiar.params_networks import Search

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/peculiar"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
STAGES = ["fetch", "observe", "search", "train", "evaluate", "promote"]
# run on a bare GPU machine with numpy, scipy, torch, and astropy where FITS is read
BARE = [
    "bands",
    "hubble",
    "placing",
    "pixels",
    "starlet",
    "networks",
    "heads",
    "feeding",
    "fitting",
    "metrics",
    "standin",
]
# nouns and what each may import of ours, beside `errors`
ROOMS = {
    "errors": set(),
    "bands": set(),
    "hubble": set(),
    "lineage": set(),
    "processes": set(),
    "params": set(),
    "params_data": {"params"},
    "params_networks": {"params"},
    "galaxies": set(),
    "stars": {"bands"},
    "smoothing": set(),
    "standin": {"bands", "stars", "smoothing"},
    "fitsfile": {"bands", "galaxies"},
    "illustris": {"bands", "galaxies", "fitsfile"},
    "skirt": {"bands", "galaxies", "fitsfile"},
    "nsa": {"bands", "galaxies", "fitsfile"},
    "download": set(),
    "ledger": set(),
    "trimming": {"bands", "fitsfile"},
    "illustris_api": {"download"},
    "illustris_store": {
        "download",
        "fitsfile",
        "illustris",
        "illustris_api",
        "ledger",
        "params_data",
        "trimming",
    },
    "framing": {"galaxies"},
    "layouts": {"galaxies", "fitsfile", "illustris", "nsa", "skirt"},
    "contents": {"bands", "galaxies", "fitsfile", "illustris", "layouts", "skirt"},
    "placing": {"bands"},
    "instrument": {"bands"},
    "starlet": set(),
    "pixels": {"bands"},
    "networks": {"pixels", "starlet"},
    "feeding": {"heads"},
    "metrics": {"hubble"},
    "posterior": {"hubble"},
    "heads": {"networks", "pixels"},
    "ranks": {"heads"},
    "fitting": {"feeding", "heads", "metrics", "ranks"},
    "views": {"galaxies", "instrument", "params_data", "placing"},
    "figures": {"bands", "metrics"},
    "judgement": {
        "feeding",
        "galaxies",
        "heads",
        "hubble",
        "metrics",
        "placing",
        "posterior",
    },
    "experiment": {
        "feeding",
        "fitting",
        "galaxies",
        "heads",
        "judgement",
        "metrics",
        "params_networks",
        "pixels",
        "placing",
        "posterior",
        "views",
        "ranks",
    },
    "space": {"networks", "params_networks"},
    "study": {"params_networks"},
    "study_figures": {"study"},
    "workers": {"lineage"},
    "cluster": {"params_networks", "workers"},
    "logbook": {"tracking"},
    "trials": {
        "experiment",
        "feeding",
        "figures",
        "galaxies",
        "heads",
        "judgement",
        "lineage",
        "logbook",
        "params_networks",
        "pixels",
        "processes",
        "space",
        "study",
        "tracking",
    },
    "validity": {"bands", "galaxies", "params"},
    "trained": {"heads", "params", "params_data", "params_networks", "validity"},
    "tracking": {"lineage", "processes"},
    # of the user's commands alone
    "champion": {"instrument", "placing", "registry", "tracking", "validity"},
    "estimates": {"champion", "hubble", "posterior", "validity"},
    "sightings": {"champion", "galaxies", "instrument", "placing"},
    "catalogue": {"bands", "fitsfile"},
    "sources": {"catalogue", "champion", "galaxies", "layouts", "nsa"},
    "tables": set(),
    "pictures": {"bands", "catalogue", "champion", "tables"},
    "survey": {
        "catalogue",
        "champion",
        "estimates",
        "galaxies",
        "pictures",
        "sightings",
        "sources",
        "tables",
        "tracking",
        "workers",
    },
    "api": {"champion", "estimates", "galaxies", "params", "params_networks", "sightings"},
    "registry": {"lineage", "processes", "tracking"},
    "promotion": {"metrics", "trained"},
    "cards": {"judgement", "metrics", "trained"},
}
# the user's commands outside of the pipeline
COMMANDS = ["predict", "rollback", "reproduce", "serve", "share"]


def imports(module: str) -> set[str]:
    """Names of everything that a module imports, at any level, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def first_party(module: str) -> set[str]:
    """Our own modules that a module imports."""
    names = {name.removeprefix("peculiar.").split(".")[0] for name in imports(module)
             if name.startswith("peculiar.")}  # fmt: skip
    return names & set(MODULES)


def transitive(module: str) -> set[str]:
    """The module and all of ours below it, and the package itself, which any import runs."""
    reached, waiting = set(), [module, "__init__"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += first_party(name)
    return reached


def pipeline() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_every_module_has_a_room():
    known = {*ROOMS, *STAGES, *COMMANDS, "__main__", "__init__"}
    assert set(MODULES) == known


@pytest.mark.parametrize("module", ROOMS)
def test_nouns_import_only_what_their_room_may(module):
    assert first_party(module) <= ROOMS[module] | {"errors"}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_import_nouns_and_never_another_stage(stage):
    assert first_party(stage) <= {*ROOMS}


def test_nothing_imports_the_command_line():
    outside = {"__main__", *COMMANDS}
    assert not any(outside & first_party(m) for m in MODULES if m not in outside)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_do_not_know_of_the_user_s_commands(stage):
    assert transitive(stage).isdisjoint({"api", "champion", "survey", "predict", "sightings"})


def test_the_package_imports_nothing_heavy():
    code = "import sys, peculiar; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "mlflow", "numpy", "peculiar.api"}.isdisjoint(done.stdout.split())


# of MLflow, runs and the registry of models are two things, of which a stage that trains needs one:
# an edit of `registry` must not train every network again
@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("mlflow", ["registry", "tracking"]),
        ("optuna", ["study", "study_figures"]),  # its pictures load matplotlib's pyplot
        ("distributed", ["cluster", "workers"]),  # of a study alone, and of every stage
    ],
)
def test_a_library_has_one_home(library, homes):
    users = [m for m in MODULES if any(name.split(".")[0] == library for name in imports(m))]
    assert users == homes
    assert "registry" not in transitive("train") | transitive("search")


def test_the_api_key_is_known_to_one_module():
    sources = {module: (PACKAGE / f"{module}.py").read_text() for module in MODULES}
    assert [m for m in MODULES if "ILLUSTRIS_API_KEY" in sources[m]] == ["illustris_api"]


def test_dvc_is_not_imported():
    assert not any(name.split(".")[0] == "dvc" for m in MODULES for name in imports(m))


@pytest.mark.parametrize("module", BARE)
def test_bare_modules_need_no_tracking(module):
    reached = {name.split(".")[0] for m in transitive(module) for name in imports(m)}
    assert reached.isdisjoint({"mlflow", "dvc", "optuna", "pydantic", "yaml", "matplotlib"})


@pytest.mark.slow
def test_bare_modules_really_import_alone():
    code = f"import sys; from peculiar import {', '.join(BARE)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"mlflow", "dvc", "optuna"}.isdisjoint(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "heavy"),
    [
        ("fetch", {"torch", "mlflow", "matplotlib", "scipy.signal"}),
        ("observe", {"torch._dynamo", "mlflow", "matplotlib", "scipy.signal"}),
        ("train", {"torch._dynamo", "scipy.signal", "optuna"}),
        ("evaluate", {"torch._dynamo", "scipy.signal", "optuna"}),
        ("promote", {"torch", "matplotlib", "scipy.signal", "optuna"}),
    ],
)
def test_a_stage_does_not_wait_for_imports_that_it_does_not_need(stage, heavy):
    """torch takes a second or two; `torch._dynamo`, which torchvision imports, one more."""
    code = f"import sys; import peculiar.{stage}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("stage", pipeline())
def test_dvc_deps_are_the_imports_of_the_stage(stage):
    entry = pipeline()[stage]
    module = re.match(r"python -m peculiar\.(\w+)", entry["cmd"])[1]
    assert module == stage.split("-")[0]
    wanted = {f"src/peculiar/{name}.py" for name in transitive(module)}
    if "stars" in transitive(module):
        wanted.add("src/peculiar/data/ssp_ugriz.ecsv")
    listed = [dep for dep in entry["deps"] if dep.startswith("src/")]
    assert sorted(listed) == sorted(wanted)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("stage", ["search", "train", "train-best"])
def test_stages_that_may_draw_fresh_distances_depend_on_the_raw_images(stage):
    deps = [dep for dep in pipeline()[stage]["deps"] if dep.startswith("data/")]
    dataset = "${search.dataset}" if stage == "search" else "${item.dataset}"
    assert deps == ["data/fetch", f"data/observe/{dataset}"]


@pytest.mark.parametrize("stage", ["evaluate", "promote"])
def test_stages_that_judge_do_not_depend_on_the_raw_images(stage):
    assert "data/fetch" not in pipeline()[stage]["deps"]


def test_dvc_tracks_every_knob():
    """Each leaf of params.yaml is a param of some stage, but for the lists that make matrices."""
    tracked = {param for entry in pipeline().values() for param in entry["params"]}
    prefixes = {param.split(".${")[0] for param in tracked}

    def leaves(value, path):
        if isinstance(value, dict) and value:
            for key, below in value.items():
                yield from leaves(below, [*path, key])
        else:
            yield ".".join(path)

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    untracked = {
        leaf for leaf in leaves(params, [])
        if not any(leaf == prefix or leaf.startswith(f"{prefix}.") for prefix in prefixes)
    }  # fmt: skip
    # where a search runs changes none of its trials
    engine = {leaf for leaf in untracked if leaf.split(".")[:2][-1] in Search.ENGINE}
    assert {leaf.split(".")[1] for leaf in engine} == Search.ENGINE - {"trials"}
    assert untracked - engine == {"observe.datasets"}


@pytest.mark.parametrize(
    "name",
    ["search", "trials", "experiment", "train", "promote", "fitting", "heads", "observe", "views"],
)
def test_only_evaluate_reads_the_test_split(name):
    source = (PACKAGE / f"{name}.py").read_text()
    assert 'rows("test")' not in source
    assert 'SPLIT = "test"' not in source
    assert re.search(r'predict_split\([^)]*"test"', source) is None


def test_no_registry_host_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    hosts = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", r"conda\.anaconda"]))
    for name in tracked.stdout.split():
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".fits"}:
            assert not hosts.search(path.read_text(errors="replace")), name
