"""Markdown of a comparison: circumstances, its figures beside the paper's, the paper's orderings, and stability."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from research.comparison import Comparison, Paper
from research.pace import Pace, mean_pace
from research.records import Result
from research.results import Ordering, Row, distance_name, orderings, present, rows
from trivd.evaluation.figures import ONE
from trivd.pictures.markdown import markdown_table
from trivd.training.collapse import first_collapse, has_worsened

COLUMNS = 100  # of a line of Markdown outside tables


def comparison_parts(comparison: Comparison, found: Sequence[Result], paces: Mapping[str, Pace]) -> list[str]:
    """Paragraphs and tables about the runs of a comparison.

    Args:
        comparison: what they belong to.
        found: its runs.
        paces: measured pace of each cell; if there is none, that of the runs is shown.
    """
    table = rows(comparison, found)
    parts = [_circumstances(found, table)]
    if table:
        parts.append(_results_table(comparison, table, paces or _paces_of(found)))
        parts += _absent(table)
    if verdicts := _orderings_table(table, present(table, (distance_name(table), f"SSIM, {ONE}"))):
        parts.append(verdicts)
    return parts


def wrapped(paragraph: str) -> str:
    """A paragraph in lines of at most `COLUMNS`."""
    return textwrap.fill(paragraph, COLUMNS, break_long_words=False, break_on_hyphens=False)


def changed_settings(comparison: Comparison, found: Sequence[Result]) -> list[str]:
    """A sentence about the settings that the user has changed, if there are any."""
    changed = {
        f"{section}.{name}": value
        for values in found
        for section, settings in values.get("set", {}).items()
        for name, value in settings.items()
    }
    if not changed:
        return []
    origin = "the paper's" if comparison.scale == "paper" else "the comparison's"
    listed = ", ".join(f"`{name}` {value}" for name, value in sorted(changed.items()))
    return [wrapped(f"**Settings other than {origin}: {listed}.**")]


def protocols(comparison: Comparison, found: Sequence[Result]) -> list[str]:
    """The protocol of each row, whose figures depend on it."""
    return [
        wrapped(f"{row.label}: {protocol}.")
        for row in rows(comparison, found)
        for protocol in dict.fromkeys(str(evaluation.protocol) for evaluation in row.evaluations)
    ]


def _circumstances(found: Sequence[Mapping[str, Any]], table: Sequence[Row]) -> str:
    """One line with data, hardware, versions, dates and duration of the trainings."""
    hours = sum(values["seconds"] for values in found) / 3600
    dates = sorted(values["date"][:10] for values in found)
    places = Counter(_place(values) for values in found)
    where = places.most_common()
    hardware = where[0][0] if len(where) == 1 else " or ".join(f"{place} ({count})" for place, count in where)
    period = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    data = " and ".join(dict.fromkeys(values["data"] for values in found))
    several = any(len(row.evaluations) == 1 and row.evaluations[0].protocol.runs > 1 for row in table)
    of_one = ", or, of a single seed, over the runs of its evaluation" if several else ""
    text = (
        f"{len(found)} training{'s' if len(found) > 1 else ''} on {data}, {hours:.1f} hours in all, "
        f"each on {hardware}, torch {found[0]['versions']['torch']}, {period}."
    )
    return wrapped(f"{text} Mean ± unbiased standard deviation over training seeds{of_one}." if table else text)


def _place(values: Mapping[str, Any]) -> str:
    hardware, processes = values["hardware"], values.get("processes", 1)
    if hardware["device"] != "cpu":
        return f"{processes} x {hardware['device']}"
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''} of {hardware['cpu']}"
    return threads if processes == 1 else f"{processes} processes with {threads}"


def _paces_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Pace]:
    """The pace of each cell by the logs of its runs."""
    paces: dict[str, list[Pace]] = {}
    for values in found:
        if values.get("pace"):
            paces.setdefault(values["cell"], []).append(Pace(**values["pace"]))
    return {cell: mean_pace(own) for cell, own in paces.items()}


def _results_table(comparison: Comparison, table: Sequence[Row], paces: Mapping[str, Pace]) -> str:
    """Each row's figures, with the paper's before ours."""
    names = list(dict.fromkeys(name for row in table for name in row.figures))
    published = list(dict.fromkeys([*comparison.copy, *(name for row in table for name in row.paper)]))
    ours = {name: next((own for own in names if own.startswith(name)), None) for name in published}
    costs = {"steps": ["steps"], "ms per step": ["ms per step"] if paces else [], "GB": ["GiB"] if paces else []}
    alone = [name for name in published if ours[name] is None and not costs.get(name)]
    columns: list[tuple[str, str]] = [("paper", name) for name in alone]
    for name in names:
        columns += [("paper", own) for own in published if ours[own] == name] + [("figure", name)]
    for name, own_names in costs.items():
        columns += [("paper", name)] if name in published and own_names else []
        columns += [("cost", own) for own in own_names]
    lines = []
    for row in table:
        pace = paces.get(row.cell)
        own_costs = dict(zip(("ms per step", "GiB"), pace.cells if pace else ["", ""], strict=True))
        own_costs["steps"] = f"{row.steps.mean:,.0f}"
        figures = {name: figure.model.text(figure.digits) for name, figure in row.figures.items()}
        lines.append([row.label, str(len(row.evaluations)), *_line(columns, row.paper, figures, own_costs)])
    baselines: tuple[tuple[str, str, Paper], ...] = (
        ("copy the last frame", "copy", comparison.copy),
        ("true clips", "truth", {}),
    )
    for title, attribute, paper in baselines:
        values = {name: _baseline(table, name, attribute) for name in names}
        lines.append([title, "", *_line(columns, paper, values, {})])
    header = [f"{name} in the paper" if kind == "paper" else name for kind, name in columns]
    return markdown_table(["cell", "n", *header], lines)


def _absent(table: Sequence[Row]) -> list[str]:
    """A sentence about each figure that rows lack, and why."""
    rows_by_text: dict[str, list[str]] = {}
    for row in table:
        for text in dict.fromkeys(f"{absent.name} {absent.text}" for one in row.evaluations for absent in one.absent):
            rows_by_text.setdefault(text, []).append(row.label)
    return [wrapped(f"{text} ({', '.join(labels)}).") for text, labels in rows_by_text.items()]


def _line(
    columns: Sequence[tuple[str, str]], paper: Paper, figures: Mapping[str, str], costs: Mapping[str, str]
) -> list[str]:
    """The cells of a line under `columns`, which name what is the paper's, a figure or a cost of ours."""
    published = {name: figure.text for name, figure in paper.items()}
    kinds = {"paper": published, "figure": figures, "cost": costs}
    return [kinds[kind].get(name, "") for kind, name in columns]


def _baseline(table: Sequence[Row], name: str, attribute: str) -> str:
    figure = next(row.figures[name] for row in table if name in row.figures)
    value = getattr(figure, attribute)
    return "" if value is None else f"{value:.{figure.digits}f}"


def _orderings_table(table: Sequence[Row], names: Sequence[str]) -> str:
    """The paper's orderings beside ours, judged by each of several figures."""
    found = {name: orderings(table, name) for name in names}
    summaries = []
    lines: dict[tuple[str, str], list[str]] = {}
    for place, (name, pairs) in enumerate(found.items()):
        counts = Counter(pair.verdict for pair in pairs)
        summaries.append(
            f"By {name}, {counts['holds']} of the paper's {len(pairs)} orderings hold, {counts['reversed']} are "
            f"reversed, and {counts['not resolved']} are not resolved."
        )
        digits = next(row.figures[name].digits for row in table if name in row.figures)
        for pair in pairs:
            start = [f"{pair.first} better than {pair.second}", f"{pair.paper:.1f}", *[""] * len(found)]
            lines.setdefault((pair.first, pair.second), start)[2 + place] = _difference(pair, digits)
    if not lines:
        return ""
    header = ["the paper's ordering", "difference of FVD", *(f"by {name}" for name in found)]
    explained = (
        "A difference above 0 agrees with the paper. It is resolved where it exceeds its 95% margin (Student's t, one "
        "standard deviation for all cells); without any true difference, one in twenty still would."
    )
    return f"{wrapped(' '.join([*summaries, explained]))}\n\n{markdown_table(header, list(lines.values()))}"


def _difference(pair: Ordering, digits: int) -> str:
    margin = "" if pair.margin is None else f" ± {pair.margin:.{digits}f}"
    return f"{pair.difference:+.{digits}f}{margin}: {pair.verdict}"


def stability_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Trainings flagged as collapsed beside those whose distance worsened."""
    lines, seen = [], set()
    counts: Counter[tuple[bool, bool]] = Counter()
    for values in found:
        if values["weights"] in seen:  # a run that another comparison shares
            continue
        seen.add(values["weights"])
        log = sorted([*values["losses"], *values["scores"]], key=lambda row: row["step"])
        flag, worsened = first_collapse(log), has_worsened(values["scores"])
        counts[flag is not None, worsened] += 1
        if flag is not None or worsened:
            lines.append(
                [
                    f"{values['grid']}: {values['cell']}, seed {values['seed']}",
                    "-" if flag is None else f"step {flag.step}: {flag.reason}",
                    "yes" if worsened else "no",
                ]
            )
    summary = wrapped(
        f"Of {len(seen)} trainings, {counts[True, True]} were flagged and ended at more than twice their best distance "
        f"(hits), {counts[False, True]} ended so without a flag (misses), {counts[True, False]} were flagged and did "
        f"not (false alarms), {counts[False, False]} neither."
    )
    return summary + ("\n\n" + markdown_table(["run", "flag", "worsened"], lines) if lines else "")
