"""What is known of a detector's class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

__all__ = ["Entry"]

Variants = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Entry:
    """What is known of a detector's class.

    Parameters
    ----------
    name : str
        Of the class, public as ``skood.<name>``.
    home : str
        The module that has it.
    family : str
        ``"logits"``, ``"head"``, ``"shaping"``, ``"layers"``, ``"trained"`` or
        ``"wrapped"``: the room, the page of the guide, and its row in the tables.
    summary : str
        What the score is, in a line.
    paper, venue, year : str, str, int
        The source.
    code : str
        The authors' repository, ``""`` where none is known.
    needs : tuple of str
        Beside features: ``"logits"``, ``"head"``, ``"labels"``, a statistic that is
        not ``"avg"``, ``"jigsaw views"``, or an extra to install.
    uses_labels : bool
        Whether class labels change the scores where they are given, more than by which
        rows a limited number of them has.
    negative_features : bool
        Whether features below zero are taken as they are.
    tasks : tuple of str
        ``"classification"`` needs a network with classes, ``"embedding"`` is any.
    cost : str
        Of scoring a row, in the guide's words.
    state : tuple of str
        Qualified names of the types in its fitted state that files have to trust.
    no_graph : str
        Why it cannot become a graph (:mod:`skood.export`); ``""`` where it can.
    on_arrays, on_features : tuple of dict
        The parameters under which the batteries run it, on bare arrays without labels
        and on layer features with labels; empty where it does not take them.
    """

    name: str
    home: str
    family: str
    summary: str
    paper: str
    venue: str
    year: int
    code: str = ""
    needs: tuple[str, ...] = ()
    uses_labels: bool = False
    negative_features: bool = True
    tasks: tuple[str, ...] = ("classification", "embedding")
    cost: str = "d"
    state: tuple[str, ...] = ()
    no_graph: str = ""
    on_arrays: Variants = ({},)
    on_features: Variants = ({},)

    @cached_property
    def detector(self) -> type:
        """The class.

        Raises
        ------
        ImportError
            If its extra is not installed.
        """
        found: type = getattr(import_module(self.home), self.name)
        return found

    @property
    def qualified_name(self) -> str:
        """The module and the class's name."""
        return f"{self.home}.{self.name}"

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters that have a default, none found on outliers."""
        found = signature(self.detector).parameters.values()
        return {p.name: p.default for p in found if p.default is not Parameter.empty}
