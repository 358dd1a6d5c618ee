import shlex
import shutil
import subprocess
import sys

import pytest

from builders.pipeline import ROOT, inside
from peculiar import __version__
from peculiar.cli import options, stages
from peculiar.cli.main import main, parser
from peculiar.registry.selection import ALLOWABLE
from peculiar.runs import tracking

STAGES = ["fetch", "observe", "search", "train", "evaluate", "nulls", "promote"]
OTHERS = ["predict", "place", "inspect", "standin", "serve", "results"]
REGISTRY = [["registry", name] for name in ("list", "rollback", "export", "import", "reproduce")]
COMMANDS = [*([name] for name in (*STAGES, *OTHERS)), *REGISTRY]
HEAVY = {"numpy", "torch", "mlflow", "astropy", "matplotlib", "optuna", "pydantic", "yaml"}


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


def test_the_help_lists_every_command(capsys):
    text = printed(capsys, "--help")
    assert all(f"\n    {command[0]} " in text for command in COMMANDS)
    assert all(
        f"\n    {command[1]}" in printed(capsys, "registry", "--help") for command in REGISTRY
    )


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_the_help_of_a_command_has_a_description_and_an_example(command, tmp_path, capsys):
    """And starts nothing: it leaves no file."""
    with inside(tmp_path):
        text = printed(capsys, *command, "--help")
    assert f"\nexample:\n  peculiar {' '.join(command)}" in text
    assert text.split("\n\n")[1].endswith(".")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_the_example_of_a_command_is_one(command, capsys):
    example = printed(capsys, *command, "--help").strip().splitlines()[-1]
    assert parser().parse_args(shlex.split(example)[1:]).command == command[0]


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["search", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = f"""
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from peculiar.cli.main import main
main({arguments!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stderr.split())
    assert "peculiar.cli.main" in done.stderr.split()


def test_the_version(capsys):
    assert printed(capsys, "--version") == f"peculiar {__version__}\n"


@pytest.mark.parametrize("name", ["rollback", "reproduce", "export", "import"])
def test_commands_of_the_registry_are_below_registry_only(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name])
    assert stop.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_what_promote_may_allow():
    assert set(stages.ALLOWABLE) == set(ALLOWABLE)


def test_the_default_model_is_the_champion():
    assert options.CHAMPION == tracking.CHAMPION


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["fetch"], []),
        (["observe", "--dataset", "a"], ["--dataset", "a"]),
        (["search"], []),
        (["train", "--dataset", "a", "--network", "b"], ["--dataset", "a", "--network", "b"]),
        (["evaluate"], []),
        (["nulls"], []),
        (["promote"], []),
        (
            ["promote", "--allow", "withdrawn", "other-data", "--dry-run"],
            ["--dry-run", "--allow", "withdrawn", "other-data"],
        ),
    ],
)
def test_a_stage_gets_its_options(arguments, passed, monkeypatch):
    calls = []
    monkeypatch.setattr(f"peculiar.pipeline.{arguments[0]}.main", calls.append)
    main(arguments)
    assert calls == [passed]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_needs_the_parameters_of_its_folder(stage, tmp_path):
    options = {"observe": ["--dataset", "a"], "train": ["--dataset", "a", "--network", "b"]}
    with inside(tmp_path), pytest.raises(SystemExit, match=r"^peculiar: params\.yaml is missing"):
        main([stage, *options.get(stage, [])])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", [*STAGES[1:], "promote --dry-run"])
def test_a_stage_without_its_input_leaves_nothing(stage, tmp_path, params_file):
    options = {
        "observe": ["--dataset", "uniform"],
        "train": ["--dataset", "uniform", "--network", "cnn3"],
    }
    shutil.copy(params_file, tmp_path)
    with (
        inside(tmp_path),
        pytest.raises(SystemExit, match=r"^peculiar: \S+ (is mis|has no im)"),
    ):
        main([*stage.split(), *options.get(stage, [])])
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.slow
def test_python_m_peculiar_answers():
    command = [sys.executable, "-m", "peculiar", "place", "gone.fits", "--output", "a.png"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "peculiar: gone.fits is missing: check the path\n"
