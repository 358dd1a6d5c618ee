"""Null tests of several networks as a table in Markdown."""

from collections.abc import Mapping, Sequence

from peculiar.nulls.params import Nulls
from peculiar.runs.nulls import Limits, NullTests, Rendering, Scenes


def null_table(
    tests: Mapping[str, NullTests], readers: Mapping[str, Sequence[Scenes]], params: Nulls
) -> str:
    """Table of the results, one column a network.

    Parameters
    ----------
    tests : mapping of str to NullTests
        Results by the name of the network.
    readers : mapping of str to sequence of Scenes
        What a linear reader of sharpness makes of the scenes of each dataset, by its name.
    params : Nulls
        Section `nulls`: epochs on scenes, and limits.

    Returns
    -------
    str
        Markdown; what fails is bold.
    """
    lines = [
        f"Scenes: correlation r of D_p and D of unseen scenes without information on distance, "
        f"after training on such scenes (at most {params.epochs} epochs, no fresh distances).",
        "",
        "Other lines: mean change of D_p when the same stars are rendered in another way, and the "
        "relative change of L2(D). Errors are those of means over galaxies.",
        "",
        f"Limits: {params.limits}. Bold fails.",
        "",
        "A linear reader of sharpness (`peculiar.nulls.reader`) shows whether scenes can be read.",
        "",
        "| test | " + " | ".join([*tests, *map(_reader, readers)]) + " |",
        "|---" * (1 + len(tests) + len(readers)) + "|",
    ]
    rows: dict[str, dict[str, str]] = {}
    for network, results in tests.items():
        for scenes in results.scenes:
            rows.setdefault(scenes.name, {})[network] = _scenes_cell(scenes, params.limits)
        for rendering in results.renderings:
            rows.setdefault(rendering.name, {})[network] = _rendering_cell(rendering, params.limits)
    for dataset, found in readers.items():
        for scenes in found:
            rows.setdefault(scenes.name, {})[_reader(dataset)] = _scenes_cell(scenes, params.limits)
    columns = [*tests, *map(_reader, readers)]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join(cells.get(n, "-") for n in columns) + " |")
    verdicts = [
        f"{len(one.failures)} failed" if one.failures else "passes" for one in tests.values()
    ]
    lines.append("| **verdict** | " + " | ".join([*verdicts, *["-"] * len(readers)]) + " |")
    lines += [
        f"\n{network}: not rendered again, since {results.not_applicable}."
        for network, results in tests.items()
        if results.not_applicable
    ]
    return "\n".join(lines) + "\n"


def _reader(dataset: str) -> str:
    return f"linear reader, {dataset}"


def _scenes_cell(scenes: Scenes, limits: Limits) -> str:
    return _marked(f"r {scenes.r:+.2f} ± {scenes.error:.2f}", scenes.against(limits))


def _rendering_cell(one: Rendering, limits: Limits) -> str:
    relative = one.l2_mpc / one.reference_l2_mpc - 1
    text = f"{one.change_mpc:+.2f} ± {one.error_mpc:.2f} Mpc, L2 {relative:+.0%}"
    return _marked(text, one.against(limits))


def _marked(text: str, against: str | None) -> str:
    return f"**{text}**" if against else text
