"""A network on disk as the registry keeps it: data alone, of which nothing is executed.

FOLDER/MLmodel              what MLflow shows of the model; it names no loader
FOLDER/network.json         `runs.blueprint.Blueprint`
FOLDER/weights.safetensors  weights and buffers

Our own code builds the network (docs/decisions/0041).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from peculiar.core.errors import InputError
from peculiar.core.params import validate_json
from peculiar.runs.blueprint import Blueprint
from peculiar.runs.weights import WEIGHTS, read_weights, write_weights

if TYPE_CHECKING:  # slow to import
    from peculiar.networks.heads import Network

MLMODEL, NETWORK = "MLmodel", "network.json"
FILES = {MLMODEL, NETWORK, WEIGHTS}
EXPORTED = "data/model.pt2"  # in models before 2026-11-29
PICKLED = (".pth", ".pkl", ".pickle", ".joblib")
ANEW = (
    "train and promote it again with `make repro`, or ask who sent it for an export that "
    "`peculiar registry export` wrote since 2026-11-29"
)


class Stored(NamedTuple):
    """A network and its plan."""

    blueprint: Blueprint
    network: "Network"


def write_model(folder: Path, network: "Network", blueprint: Blueprint) -> None:
    """Write the three files into an existing folder."""
    (folder / MLMODEL).write_text(mlmodel(blueprint))
    (folder / NETWORK).write_text(blueprint.model_dump_json(indent=2) + "\n")
    write_weights(network, folder / WEIGHTS)


def mlmodel(blueprint: Blueprint) -> str:
    """Content of `MLmodel`: files, and shapes of the input and output; no flavor of MLflow's."""
    survey = blueprint.survey
    grid = [] if blueprint.grid_mpc is None else [len(blueprint.grid_mpc)]
    image = [-1, len(survey.bands), survey.pixels, survey.pixels]
    return f"""flavors:
  peculiar:
    network: {NETWORK}
    weights: {WEIGHTS}
signature:
  inputs: '{_float32(image)}'
  outputs: '{_float32([-1, *grid])}'
  params: null
"""


def _float32(shape: list[int]) -> str:
    """A tensor in MLflow's words."""
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}])


def check_no_program(folder: Path, name: str) -> None:
    """Refuse a pickle and an export of torch, which can run any code when they are loaded.

    Raises
    ------
    InputError
        When the folder holds one.
    """
    what = [f"pickled ({p.name})" for p in sorted(folder.rglob("*")) if p.suffix in PICKLED]
    if (folder / EXPORTED).exists():
        what.append(f"an exported program ({EXPORTED})")
    if what:
        raise InputError(f"{name} is {what[0]} and is not loaded, since that can run code: {ANEW}")


def _check_files(folder: Path, name: str) -> None:
    """Refuse a folder that has more or less than the three files."""
    check_no_program(folder, name)
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for file, path in sorted(files.items()):
        if file not in FILES or path.is_symlink() or not path.is_file():
            raise InputError(f"{name} has {file}, which is no part of a model: {ANEW}")
    if missing := sorted(FILES - files.keys()):
        raise InputError(f"{name} has no {missing[0]}: {ANEW}")


def read_model(folder: Path, name: str) -> Stored:
    """Build the network of a folder, on the CPU, for predictions.

    Parameters
    ----------
    folder : Path
        From `write_model`.
    name : str
        Name of the model, for messages.

    Returns
    -------
    Stored

    Raises
    ------
    InputError
        When a file is missing, added, damaged or not valid, or the files do not fit together.
    """
    _check_files(folder, name)
    blueprint = read_blueprint(folder, name)
    try:
        network = blueprint.fresh_network()
    except InputError as error:
        raise InputError(f"{name}: {NETWORK}: {error}: {ANEW}") from None
    except (RuntimeError, MemoryError, OverflowError):
        raise InputError(f"{name}: {NETWORK}: its network cannot be built: {ANEW}") from None
    try:
        read_weights(network, folder / WEIGHTS, ANEW)
    except InputError as error:
        raise InputError(f"{name}: {str(error).replace(f'{folder}/', '')}") from None
    if blueprint.grid_mpc is not None:
        grid = network.state_dict()["head.grid_mpc"]
        if not grid.equal(grid.new_tensor(blueprint.grid_mpc)):
            raise InputError(f"{name}: grid_mpc of {NETWORK} is not that of {WEIGHTS}: {ANEW}")
    return Stored(blueprint, network.eval().requires_grad_(False))


def read_blueprint(folder: Path, name: str) -> Blueprint:
    """Read and validate `network.json`, and check that `MLmodel` is what we write for it.

    Raises
    ------
    InputError
        When a value is not valid; the message names the first such key.
    """
    try:
        text, shown = [(folder / file).read_text() for file in (NETWORK, MLMODEL)]
    except UnicodeDecodeError:
        raise InputError(f"{name}: {NETWORK} or {MLMODEL} is not text: {ANEW}") from None
    blueprint = validate_json(Blueprint, text, f"{name}: {NETWORK}", ANEW)
    ours = mlmodel(blueprint).splitlines()
    for number, line in enumerate(shown.splitlines(), start=1):
        if number > len(ours) or line != ours[number - 1]:
            raise InputError(
                f"{name}: line {number} of {MLMODEL}, {line.strip()[:80]!r}, is not what peculiar "
                f"writes for its {NETWORK}: {ANEW}"
            )
    if shown != mlmodel(blueprint):
        raise InputError(f"{name}: {MLMODEL} is cut off: {ANEW}")
    return blueprint
