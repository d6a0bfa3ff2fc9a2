"""The figures of an evaluation as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from qwen3_rag.errors import ConfigurationError, missing_dependency
from qwen3_rag.evaluation.run import Evaluation

_WIDTH: Final = 0.8  # of a group of bars, of the 1.0 between groups


def save_plot(evaluation: Evaluation, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draws the figures as groups of bars, a colour for each way to search, and saves the picture.

    Args:
        evaluation: What a run has shown.
        path: Where to; the suffix says the format: `.png`, `.svg`, `.pdf`, …
        title: Stands above the picture.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
        ConfigurationError: If the path can't be written, or its suffix is no format.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    share = _WIDTH / len(evaluation.reports)
    names = list(next(iter(evaluation.reports.values())).figures())
    for index, (way, report) in enumerate(evaluation.reports.items()):
        places = [group + (index + 0.5) * share - _WIDTH / 2 for group in range(len(names))]
        bars = axes.bar(places, list(report.figures().values()), share, label=way)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1.08)
    axes.set_title(title or f"{len(evaluation.questions)} questions, {evaluation.k} candidates")
    figure.legend(loc="outside lower center", ncols=len(evaluation.reports), frameon=False, fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigurationError(f"can't write the plot to {os.fspath(path)!r}: {error}") from error


def check_plot(path: str | os.PathLike[str]) -> None:
    """Finds out, before a long run, whether its picture could be drawn.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
        ConfigurationError: If the suffix of the path is no format, or its folder does not exist.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise missing_dependency(error.name or "matplotlib", "plot") from error
    formats = FigureCanvasBase.get_supported_filetypes()
    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix not in formats:
        raise ConfigurationError(
            f"plot is {os.fspath(path)!r}, whose suffix is no format of a picture: use one of "
            f"{', '.join(f'.{name}' for name in formats)}"
        )
    if not Path(path).parent.is_dir():
        raise ConfigurationError(f"plot is {os.fspath(path)!r}, whose folder does not exist: create it first")
