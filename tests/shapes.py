"""Checks the shapes in zerosum's signatures while the tests run, and only then (design rule 7).

The package imports jaxtyping under `if TYPE_CHECKING`, so nobody needs it to train. Here the modules that
do so are compiled with that condition true and with every function checked on each call, by jaxtyping and
beartype. (Their own import hook would leave the names undefined, and would stop torch.compile from tracing.)
"""

from __future__ import annotations

import ast
import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from beartype import beartype
from jaxtyping import jaxtyped

CHECK = "_check_shapes"


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotated shapes and types checked, except while torch traces it."""
    strict = jaxtyped(typechecker=beartype)(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        return strict(*args, **kwargs)

    return call


class _Transform(ast.NodeTransformer):
    """Makes `if TYPE_CHECKING:` true and decorates functions and methods (not the functions inside them)."""

    def visit_If(self, node: ast.If) -> Any:
        return node.body if ast.unparse(node.test) == "TYPE_CHECKING" else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(ast.Name(CHECK, ast.Load()))
        return node


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Always from the source: nothing checked is left in __pycache__."""
        tree = _Transform().visit(ast.parse(self.get_data(self.path)))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__[CHECK] = checked
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        return importlib.util.spec_from_file_location(
            name,
            spec.origin,
            loader=_Loader(name, spec.origin),
            submodule_search_locations=spec.submodule_search_locations,
        )


def package_folder() -> Path:
    """The folder of the installed `zerosum`, found without importing it."""
    spec = importlib.util.find_spec("zerosum")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def modules_with_shapes() -> list[str]:
    """Every module of the package whose annotations are jaxtyping's, without importing any."""
    root = package_folder()
    names = []
    for path in sorted(root.rglob("*.py")):
        if "from jaxtyping import" in path.read_text(encoding="utf-8"):
            parts = ("zerosum", *path.relative_to(root).with_suffix("").parts)
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


def check_shapes() -> list[str]:
    """From now on, a module with shapes is imported with its shapes checked. Returns these modules' names."""
    names = modules_with_shapes()
    early = sorted(set(names) & set(sys.modules))
    if early:
        raise RuntimeError(f"{early[0]} was imported before its shapes could be checked")
    sys.meta_path.insert(0, _Finder(names))
    return names
