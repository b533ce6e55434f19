"""The ``batch`` section of a buildspec. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

import yaml

from hooks.builds.spec_environment import read_variables
from hooks.builds.spec_model import BatchEnvironment, BatchMatrix, BatchSpec, BatchTask
from hooks.document import DocumentReader, is_empty

KINDS = ("build-list", "build-graph", "build-matrix", "build-fanout")
MAX_TASKS = 100

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_ENVIRONMENT = ("type", "compute-type", "fleet", "image", "privileged-mode", "variables")
_TASK = ("identifier", "buildspec", "debug-session", "env", "ignore-failure")


def read_batch(reader: DocumentReader, node: yaml.Node | None) -> BatchSpec | None:
    """``batch``; None when there is none, or nothing in it."""
    entries = reader.mapping(node, "batch")
    if node is None or not entries:
        return None
    reader.known(entries, ("fast-fail", *KINDS), "batch")
    kinds = [kind for kind in KINDS if kind in entries]
    fast_fail = reader.boolean(entries.get("fast-fail"), "batch.fast-fail")
    if len(kinds) != 1:
        reader.fault(node, f"batch has to have exactly one of {', '.join(KINDS)}")
        return None
    kind, section = kinds[0], entries[kinds[0]]
    if kind == "build-matrix":
        return BatchSpec(kind, fast_fail, matrix=_matrix(reader, section))
    if kind == "build-fanout":
        return _fanout(reader, section, fast_fail=fast_fail)
    return BatchSpec(kind, fast_fail, tasks=_tasks(reader, kind, section))


def _tasks(reader: DocumentReader, kind: str, node: yaml.Node) -> tuple[BatchTask, ...]:
    where = f"batch.{kind}"
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        reader.fault(node, f"{where} has to be a list of builds")
        return ()
    if len(node.value) > MAX_TASKS:
        reader.fault(node, f"{where}: at most {MAX_TASKS} builds")
        return ()
    keys = (*_TASK, "depend-on") if kind == "build-graph" else _TASK
    tasks = tuple(_task(reader, item, f"{where}[{index}]", keys) for index, item in enumerate(node.value))
    _check_identifiers(reader, node.value, tasks, where)
    if kind == "build-graph":
        _check_graph(reader, node, tasks, where)
    return tasks


def _task(reader: DocumentReader, node: yaml.Node, where: str, keys: Sequence[str]) -> BatchTask:
    entries = reader.mapping(node, where)
    reader.known(entries, keys, where)
    return BatchTask(
        reader.text(entries.get("identifier"), f"{where}.identifier"),
        reader.text(entries.get("buildspec"), f"{where}.buildspec"),
        reader.texts(entries.get("depend-on"), f"{where}.depend-on") if "depend-on" in keys else (),
        reader.boolean(entries.get("ignore-failure"), f"{where}.ignore-failure"),
        reader.boolean(entries.get("debug-session"), f"{where}.debug-session"),
        _environment(reader, entries.get("env"), f"{where}.env"),
    )


def _environment(reader: DocumentReader, node: yaml.Node | None, where: str) -> BatchEnvironment:
    entries = reader.mapping(node, where)
    reader.known(entries, _ENVIRONMENT, where)
    if "fleet" in entries and "compute-type" in entries:
        reader.fault(entries["fleet"], f"{where}: give a fleet or a compute-type, not both")
    privileged = entries.get("privileged-mode")
    has_privileged = privileged is not None and not is_empty(privileged)
    return BatchEnvironment(
        reader.text(entries.get("type"), f"{where}.type"),
        reader.text(entries.get("compute-type"), f"{where}.compute-type"),
        reader.text(entries.get("fleet"), f"{where}.fleet"),
        reader.text(entries.get("image"), f"{where}.image"),
        reader.boolean(privileged, f"{where}.privileged-mode") if has_privileged else None,
        read_variables(reader, entries.get("variables"), f"{where}.variables"),
    )


def _check_identifiers(
    reader: DocumentReader, nodes: Sequence[yaml.Node], tasks: Sequence[BatchTask], where: str
) -> None:
    seen: set[str] = set()
    for index, (node, task) in enumerate(zip(nodes, tasks, strict=True)):
        if not task.identifier:
            reader.fault(node, f"{where}[{index}].identifier is missing")
        elif not _IDENTIFIER.match(task.identifier):
            reader.fault(node, f"{where}[{index}].identifier {task.identifier!r}: letters, digits, _ and - only")
        elif task.identifier in seen:
            reader.fault(node, f"{where}: two builds are called {task.identifier!r}")
        seen.add(task.identifier)


def _check_graph(reader: DocumentReader, node: yaml.Node, tasks: Sequence[BatchTask], where: str) -> None:
    names = {task.identifier for task in tasks}
    for item, task in zip(node.value, tasks, strict=True):
        for name in task.depends_on:
            if name not in names:
                reader.fault(item, f"{where}: {task.identifier!r} depends on {name!r}, which is not there")
    try:
        TopologicalSorter({task.identifier: task.depends_on for task in tasks}).prepare()
    except CycleError as error:
        reader.fault(node, f"{where}: the builds wait for each other: {' → '.join(error.args[1])}")


def _matrix(reader: DocumentReader, node: yaml.Node) -> BatchMatrix:
    where = "batch.build-matrix"
    entries = reader.mapping(node, where)
    reader.known(entries, ("static", "dynamic"), where)
    static = reader.mapping(entries.get("static"), f"{where}.static")
    reader.known(static, ("ignore-failure", "env"), f"{where}.static")
    dynamic = reader.mapping(entries.get("dynamic"), f"{where}.dynamic")
    reader.known(dynamic, ("buildspec", "env"), f"{where}.dynamic")
    choices = reader.mapping(dynamic.get("env"), f"{where}.dynamic.env")
    reader.known(choices, ("compute-type", "image", "variables"), f"{where}.dynamic.env")
    if not dynamic:
        reader.fault(node, f"{where}.dynamic is missing: there is nothing to choose from")
    matrix = BatchMatrix(
        reader.boolean(static.get("ignore-failure"), f"{where}.static.ignore-failure"),
        _environment(reader, static.get("env"), f"{where}.static.env"),
        reader.texts(dynamic.get("buildspec"), f"{where}.dynamic.buildspec"),
        reader.texts(choices.get("compute-type"), f"{where}.dynamic.env.compute-type"),
        reader.texts(choices.get("image"), f"{where}.dynamic.env.image"),
        _lists(reader, choices.get("variables"), f"{where}.dynamic.env.variables"),
    )
    axes = (matrix.buildspecs, matrix.compute_types, matrix.images, *matrix.variables.values())
    count = math.prod(len(values) for values in axes if values)
    if count > MAX_TASKS:
        reader.fault(node, f"{where} makes {count} builds; at most {MAX_TASKS} are made")
    return matrix


def _lists(reader: DocumentReader, node: yaml.Node | None, where: str) -> dict[str, tuple[str, ...]]:
    lists: dict[str, tuple[str, ...]] = {}
    for name, value in reader.mapping(node, where).items():
        lists[name] = reader.texts(value, f"{where}.{name}")
        if not lists[name]:
            reader.fault(value, f"{where}.{name} has no values")
    return lists


def _fanout(reader: DocumentReader, node: yaml.Node, *, fast_fail: bool) -> BatchSpec:
    where = "batch.build-fanout"
    entries = reader.mapping(node, where)
    reader.known(entries, ("parallelism", "ignore-failure"), where)
    word = reader.text(entries.get("parallelism"), f"{where}.parallelism")
    if not re.fullmatch(r"[0-9]{1,3}", word) or not 1 <= int(word) <= MAX_TASKS:
        reader.fault(node, f"{where}.parallelism is a number from 1 to {MAX_TASKS}")
        word = "0"
    ignore_failure = reader.boolean(entries.get("ignore-failure"), f"{where}.ignore-failure")
    return BatchSpec("build-fanout", fast_fail, parallelism=int(word), ignore_failure=ignore_failure)
