"""Who may import whom, and that DVC knows of all code that a stage runs."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from peculiar.search.params import Search

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/peculiar"
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
# "mock.resample" of "mock/resample.py", "mock" of "mock/__init__.py", "" of "__init__.py"
MODULES = {
    re.sub(r"(^|/)__init__$", "", name.removesuffix(".py")).replace("/", "."): path
    for name, path in FILES.items()
}
STAGES = ["fetch", "observe", "search", "train", "evaluate", "nulls", "promote"]
# which rooms of ours each room may import
ROOMS = {
    "core": set(),
    "velocity": set(),
    "parallel": {"core"},
    "mock": {"core"},
    "networks": {"core"},
    "galaxies": {"core", "parallel"},
    "runs": {"core", "mock", "networks"},
    "training": {"core", "mock", "networks", "velocity"},
    "nulls": {"core", "galaxies", "mock", "networks", "runs", "training", "velocity"},
    "search": {"core", "networks", "parallel", "runs", "training"},
    "registry": {"core", "mock", "runs", "velocity"},
    "predict": {"core", "galaxies", "mock", "parallel", "registry", "runs", "velocity"},
    "flow": {"core", "predict", "velocity"},
    "pipeline": {
        *("core", "galaxies", "mock", "networks", "nulls", "parallel", "registry", "runs"),
        *("search", "training", "velocity"),
    },
    "cli": {
        *(
            "core",
            "flow",
            "galaxies",
            "mock",
            "networks",
            "parallel",
            "pipeline",
            "predict",
            "registry",
        ),
        *("runs", "search", "training", "velocity"),
    },
}
# run on a bare GPU machine with numpy, scipy, torch, pydantic and astropy
BARE = {"core", "velocity", "mock", "networks", "training"}
# modules of a stage's rooms that it does not run: their edit makes it run again needlessly
CARRIED = {
    "fetch": {
        *("core.device", "core.frames"),
        *("galaxies.formats", "galaxies.standin.make_ssp_table"),
    },
    "observe": set(),
    "search": {"core.frames", "mock.params", "runs.nulls", "runs.record"},
    "train": {"core.frames", "mock.params", "runs.nulls"},
    "evaluate": {
        *("core.frames", "runs.logged", "runs.nulls", "runs.stored"),
        *("mock.images", "mock.instrument", "mock.kernels", "mock.params", "mock.resample"),
        *("training.calibration", "training.loader", "training.loop"),
        *("training.torchrun", "training.train"),
    },
    "nulls": {
        *("core.frames", "galaxies.fits", "galaxies.formats", "galaxies.galaxy"),
        *("galaxies.headers", "galaxies.unfinished"),
        *("galaxies.illustris", "galaxies.illustris.api", "galaxies.illustris.archive"),
        *("galaxies.illustris.http", "galaxies.illustris.skipped", "galaxies.illustris.trim"),
        *("galaxies.nsa", "galaxies.skirt", "galaxies.sources"),
        *("galaxies.standin.make_ssp_table", "galaxies.sunrise", "mock.params", "runs.logged"),
        *("runs.servers", "runs.store", "runs.stored", "runs.tracking"),
    },
    "promote": {
        *(
            "core.device",
            "core.frames",
            "networks.inference",
            "registry.champion",
            "registry.exchange",
        ),
        *("registry.index", "registry.reproduce", "registry.rollback", "registry.signature"),
        "training.loader",
        *("training.calibration", "training.loop", "training.predictions", "training.prior"),
        *("training.torchrun", "training.train"),
    },
}


@cache
def imports(module: str) -> frozenset[str]:
    """Names of everything that a module imports, at any level, dotted."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return frozenset(names)


def first_party(module: str) -> set[str]:
    """Our own modules that a module imports."""
    ours = {
        name.removeprefix("peculiar").removeprefix(".")
        for name in imports(module)
        if name.split(".")[0] == "peculiar"
    }
    return ours & set(MODULES)


@cache
def transitive(module: str) -> frozenset[str]:
    """The module, all of ours below it, and the packages that hold them, which any import runs."""
    reached, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [*first_party(name), name.rpartition(".")[0]]
    return frozenset(reached)


def room(module: str) -> str:
    return module.split(".")[0]


@cache
def pipeline() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def stage_module(stage: str) -> str:
    match = re.match(r"python -m peculiar\.([\w.]+)", pipeline()[stage]["cmd"])
    assert match is not None
    return match[1]


def code_deps(stage: str) -> list[Path]:
    return [ROOT / dep for dep in pipeline()[stage]["deps"] if dep.startswith("src/")]


def test_every_module_is_in_a_room():
    assert {room(module) for module in MODULES} - {"", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_rooms_that_it_may(name):
    entered = {room(m) for module in MODULES if room(module) == name for m in first_party(module)}
    assert entered - {"", name} <= ROOMS[name]


def test_rooms_are_ordered():
    """No two rooms import each other, at any length."""
    below = dict(ROOMS)
    while below:
        free = {name for name, others in below.items() if not others & set(below)}
        assert free, f"a cycle among {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in free}


@pytest.mark.parametrize("stage", STAGES)
def test_stages_never_import_another_stage(stage):
    others = {f"pipeline.{other}" for other in STAGES if other != stage}
    assert others.isdisjoint(transitive(f"pipeline.{stage}"))


def test_a_room_s_init_holds_its_docstring():
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module:
            (statement,) = ast.parse(path.read_text()).body
            assert isinstance(statement, ast.Expr), module


def test_no_function_is_named_as_its_module():
    for module, path in MODULES.items():
        names = {
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert module.split(".")[-1] not in names - {"main"}, module


def test_no_test_imports_another_test():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (\w+\.)*test_", path.read_text(), re.M), path


def test_tests_start_processes_where_they_are_ended():
    """A `Popen` object is left running when an assertion fails."""
    for path in (ROOT / "tests").rglob("*.py"):
        assert "subprocess.Popen" + "(" not in path.read_text() or path.name == "processes.py", path


def test_the_package_imports_nothing_heavy():
    code = "import sys, peculiar; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "mlflow", "numpy", "peculiar.predict"}.isdisjoint(done.stdout.split())


# of MLflow, runs and the registry of models are two things, of which a stage that trains needs one:
# an edit of `registry` must not train every network again
@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("mlflow", {"runs.tracking", "runs.logged", "registry.models", "predict.server"}),
        ("cryptography", {"registry.signature"}),
        ("safetensors", {"runs.weights"}),
        # its figures load matplotlib's pyplot
        ("optuna", {"search.storage", "search.study", "search.figures"}),
        ("distributed", {"search.cluster", "parallel"}),  # of a study alone, and of every stage
    ],
)
def test_a_library_has_one_home(library, homes):
    users = {m for m in MODULES if any(name.split(".")[0] == library for name in imports(m))}
    assert users == homes
    for stage in ("train", "search"):
        assert "registry" not in {room(m) for m in transitive(f"pipeline.{stage}")}


def test_the_api_key_is_known_to_one_module():
    knowing = [m for m, path in MODULES.items() if "ILLUSTRIS_API_KEY" in path.read_text()]
    assert knowing == ["galaxies.illustris.api"]


def test_dvc_is_not_imported():
    assert not any(name.split(".")[0] == "dvc" for m in MODULES for name in imports(m))


@pytest.mark.parametrize("name", sorted(BARE))
def test_bare_rooms_need_no_tracking(name):
    modules = {m for module in MODULES if room(module) == name for m in transitive(module)}
    reached = {imported.split(".")[0] for m in modules for imported in imports(m)}
    assert reached.isdisjoint({"mlflow", "dvc", "optuna", "distributed"})


@pytest.mark.slow
def test_bare_rooms_really_import_alone():
    names = sorted(f"peculiar.{m}" for m in MODULES if room(m) in BARE)
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"mlflow", "dvc", "optuna"}.isdisjoint(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "heavy"),
    [
        ("fetch", {"torch", "mlflow", "matplotlib", "scipy.signal"}),
        ("observe", {"torch._dynamo", "mlflow", "matplotlib", "scipy.signal"}),
        ("train", {"torch._dynamo", "matplotlib", "scipy.signal", "optuna"}),
        ("evaluate", {"torch._dynamo", "scipy.signal", "optuna"}),
        ("nulls", {"torch._dynamo", "matplotlib", "scipy.signal", "optuna"}),
        ("promote", {"torch", "matplotlib", "scipy.signal", "optuna"}),
    ],
)
def test_a_stage_does_not_wait_for_imports_that_it_does_not_need(stage, heavy):
    """torch takes a second or two; `torch._dynamo`, which torchvision imports, one more."""
    code = f"import sys; import peculiar.pipeline.{stage}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("stage", pipeline())
def test_dvc_runs_the_module_of_the_stage_s_name(stage):
    assert stage_module(stage) == f"pipeline.{stage.split('-')[0]}"


@pytest.mark.parametrize("stage", pipeline())
def test_dvc_knows_of_all_code_that_a_stage_runs(stage):
    """What is imported lies inside what is listed, and each that is listed is entered."""
    deps, reached = code_deps(stage), {MODULES[m] for m in transitive(stage_module(stage))}
    assert len(set(deps)) == len(deps)
    for path in reached:
        assert any(path == dep or dep in path.parents for dep in deps), path
    for dep in deps:
        assert any(path == dep or dep in path.parents for path in reached), dep
    if PACKAGE / "galaxies/standin/stars.py" in reached:
        table = PACKAGE / "galaxies/standin/ssp_ugriz.ecsv"
        assert table.is_file()
        assert any(dep in table.parents for dep in deps)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_carries_along_unused_is_known(stage):
    reached = transitive(f"pipeline.{stage}")
    rooms = {room(module) for module in reached} - {"pipeline"}
    assert {m for m in MODULES if room(m) in rooms} - reached == CARRIED[stage]


@pytest.mark.parametrize("stage", ["search", "train", "train-best"])
def test_stages_that_may_draw_fresh_distances_depend_on_the_raw_images(stage):
    deps = [dep for dep in pipeline()[stage]["deps"] if dep.startswith("data/")]
    dataset = "${search.dataset}" if stage == "search" else "${item.dataset}"
    assert deps == ["data/fetch", f"data/observe/{dataset}"]


@pytest.mark.parametrize("stage", ["evaluate", "promote"])
def test_evaluate_and_promote_do_not_depend_on_the_raw_images(stage):
    assert "data/fetch" not in pipeline()[stage]["deps"]


def test_dvc_tracks_every_parameter():
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
        leaf
        for leaf in leaves(params, [])
        if not any(leaf == prefix or leaf.startswith(f"{prefix}.") for prefix in prefixes)
    }
    # where a search runs changes none of its trials
    engine = {leaf for leaf in untracked if leaf.split(".")[:2][-1] in Search.ENGINE}
    assert {leaf.split(".")[1] for leaf in engine} == Search.ENGINE - {"trials"}
    assert untracked - engine == {"observe.datasets"}


@pytest.mark.parametrize(
    "name",
    [
        *("pipeline.search", "search.objective", "training.train", "pipeline.train"),
        *("pipeline.promote", "training.loop", "networks.heads", "pipeline.observe", "mock.images"),
    ],
)
def test_only_evaluate_reads_the_test_split(name):
    source = MODULES[name].read_text()
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
