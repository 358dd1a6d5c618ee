"""`peculiar flow`: the bulk flow of the galaxies in a table of predictions."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from peculiar.cli.options import Commands, add_command, check_inputs, keep_inputs
from peculiar.core.errors import InputError

if TYPE_CHECKING:  # takes seconds to import
    from astropy.table import Table

    from peculiar.flow.table import MeasuredFlow

COLUMNS = {
    **{f"V_{axis}": ("km / s", f"bulk flow, galactic {axis}") for axis in "xyz"},
    **{f"V_{axis}_error": ("km / s", f"standard deviation of V_{axis}") for axis in "xyz"},
    "speed": ("km / s", "length of V"),
    "speed_error": ("km / s", "standard deviation of V along its direction"),
    "speed_of_noise": ("km / s", "rms speed that errors alone would give"),
    "l": ("deg", "galactic longitude that V points to"),
    "b": ("deg", "galactic latitude that V points to"),
    "cone": ("deg", "angle about it that holds 68.3 % of the probability"),
    "chance": ("", "probability without a flow of one at least as significant"),
    "zero_point": ("", "fraction by which all distances are too small"),
    "zero_point_error": ("", "standard deviation of zero_point"),
    "sigma_v": ("km / s", "deviation of velocities about the flow"),
    "sigma_v_error": ("km / s", "its standard deviation; NaN where it was given"),
    "depth": ("Mpc", "mean distance, galaxies weighted by what they say of V"),
    "galaxies": ("", "number of galaxies used"),
}
SEED = 1  # of the directions that are drawn to say how well one is known


def add(commands: Commands) -> None:
    """Add `flow`."""
    command = add_command(
        commands,
        "flow",
        print_flow,
        "measure the bulk flow of predicted galaxies",
        "Measure the mean motion of the galaxies in a table that `predict --density` wrote, and "
        "the zero point of their distances, from p(D | image) and the redshifts. Use the prior of "
        "the survey's own distances in `predict`.",
        "peculiar flow predicted.parquet --picture flow.png",
    )
    command.add_argument("table", type=Path, metavar="TABLE", help="of `predict --density`")
    command.add_argument(
        "--accept",
        action="append",
        metavar="FLAG",
        default=[],
        help="use galaxies with this flag too; may be repeated. Those with any but tension, "
        "distance and cz_beyond are left out",
    )
    command.add_argument(
        "--sigma-v",
        type=float,
        metavar="KM/S",
        help="deviation of velocities about the flow; default: integrated over",
    )
    command.add_argument(
        "--output", type=Path, metavar="TABLE", help="table of one row to write: .ecsv"
    )
    command.add_argument(
        "--picture", type=Path, metavar="FILE", help="picture of the sky to write: .png or .pdf"
    )


def print_flow(arguments: argparse.Namespace) -> None:
    """Measure a flow, print it, and write what was asked for."""
    _check(arguments)
    import numpy as np

    from peculiar.core.files import replace_file
    from peculiar.flow.figures import sky
    from peculiar.flow.table import measure_flow

    measured = measure_flow(arguments.table, arguments.accept, arguments.sigma_v)
    result = flow_table(measured)
    result.meta["accepted"] = ", ".join(arguments.accept)
    lines = flow_text(arguments.table, measured, result)
    print("\n".join(lines))
    if arguments.output:
        with replace_file(arguments.output) as partial:
            result.write(partial, format="ascii.ecsv")
    if arguments.picture:
        figure = sky(measured, f"{lines[0]}\n{lines[2]}", np.random.default_rng(SEED))
        with replace_file(arguments.picture) as partial:
            figure.savefig(partial, dpi=150, format=arguments.picture.suffix[1:])


def _check(arguments: argparse.Namespace) -> None:
    from peculiar.core.files import check_output

    check_inputs([arguments.table])
    if arguments.sigma_v is not None and not 0 < arguments.sigma_v < 1e4:
        raise InputError(f"--sigma-v {arguments.sigma_v:g}: give a speed in km/s, above 0")
    for path, endings in ((arguments.output, (".ecsv",)), (arguments.picture, (".png", ".pdf"))):
        if path:
            check_output(path, endings)
            keep_inputs(path, [arguments.table])


def flow_table(measured: "MeasuredFlow") -> "Table":
    """The flow as a table of one row, with the metadata of the predictions."""
    import numpy as np
    from astropy.table import Table

    from peculiar.flow.figures import cone_deg, towards_deg
    from peculiar.flow.table import left_out_said

    flow = measured.flow
    (l_deg,), (b_deg,) = towards_deg(flow.V_kms[None])
    errors = np.sqrt(np.diag(flow.covariance))
    values = {
        **{f"V_{axis}": V for axis, V in zip("xyz", flow.V_kms, strict=True)},
        **{f"V_{axis}_error": V for axis, V in zip("xyz", errors[:3], strict=True)},
        "speed": flow.speed_kms,
        "speed_error": flow.speed_error_kms,
        "speed_of_noise": flow.noise_kms,
        "l": l_deg % 360,
        "b": b_deg,
        "cone": cone_deg(flow, np.random.default_rng(SEED)),
        "chance": flow.chance,
        "zero_point": flow.zero_point,
        "zero_point_error": errors[3],
        "sigma_v": flow.sigma_v_kms,
        "sigma_v_error": flow.sigma_v_error_kms,
        "depth": flow.depth_mpc,
        "galaxies": flow.number,
    }
    table = Table({name: [value] for name, value in values.items()})
    for name, (unit, description) in COLUMNS.items():
        table[name].unit, table[name].description = unit or None, description
    table.meta = {
        **measured.meta,
        "covariance": flow.covariance.tolist(),  # of V_x, V_y, V_z, km/s, and the zero point
        "galaxies_left_out": left_out_said(measured.left_out),
    }
    return table


def flow_text(path: Path, measured: "MeasuredFlow", result: "Table") -> list[str]:
    """What is printed."""
    import math

    from peculiar.flow.table import left_out_said

    (row,) = result
    value = {name: float(row[name]) for name in result.colnames}
    total = measured.flow.number + sum(measured.left_out.values())
    said = {name: measured.meta.get(name, "unknown") for name in ("training", "prior", "law")}
    V = ", ".join(f"{value[f'V_{axis}']:.0f} ± {value[f'V_{axis}_error']:.0f}" for axis in "xyz")
    spread = value["sigma_v_error"]
    lines = [
        f"{measured.flow.number:,} galaxies of {total:,} in {path.name}, predicted by a network "
        f"trained on {said['training']}, prior {said['prior']}, law {said['law']}",
        f"left out: {left_out_said(measured.left_out)}",
        f"{value['speed']:.0f} ± {value['speed_error']:.0f} km/s towards l = {value['l']:.0f}, "
        f"b = {value['b']:+.0f} deg (68 % within {value['cone']:.0f} deg), in the CMB's frame",
        f"V = ({V}) km/s, galactic x, y, z",
        f"errors alone give {value['speed_of_noise']:.0f} km/s; without a flow one seems as "
        f"significant with probability {value['chance']:.2g}",
        f"zero point: distances too small by {100 * value['zero_point']:.1f} ± "
        f"{100 * value['zero_point_error']:.1f} %",
        f"sigma_v {value['sigma_v']:.0f}{'' if math.isnan(spread) else f' ± {spread:.0f}'} km/s, "
        f"mean depth {value['depth']:.0f} Mpc",
    ]
    if measured.flow.sigma_v_at_limit:
        lines.append(
            "sigma_v is above all that is tried, so the errors do not hold: look for wrong "
            "redshifts or distances, or give --sigma-v"
        )
    if str(said["prior"]).startswith("uniform"):
        lines.append(
            "the prior is uniform: the zero point is biased and V is known less well than could "
            "be, unless the survey's distances are uniform (see --prior of predict)"
        )
    return lines
