"""House rules that a machine can hold: who may import whom, how long the loop is, which traps are tested."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from shapes import package_folder

SRC = package_folder()
TESTS = Path(__file__).resolve().parent

# Imports go from a line to itself or to those below it, never up (docs/architecture.md). A new module of the
# package, or a new folder of modules, is given its place here.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__init__", "__main__", "bench", "cli", "commands", "serve"),
    ("api", "doctor", "sweeps", "verify"),
    ("applications", "exports", "latent", "provenance", "recipes", "session", "translation"),
    ("equilibrium", "feeds", "memory", "metrics", "progress", "run", "sample", "seats", "snapshot", "trainer", "view"),
    ("algorithms",),
    (
        "calibrate",
        "checkpoint",
        "data",
        "ema",
        "engine",
        "film",
        "game",
        "inference",
        "losses",
        "networks",
        "parsing",
        "penalties",
        "pictures",
        "pool",
        "runlog",
        "scores",
        "snapshot",
    ),
    ("adam", "atomic", "distributed", "errors", "randomness", "schedule"),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

HEAVY = {"torch", "torchvision", "sklearn", "matplotlib", "av", "safetensors"}
IMPORT_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn", "ipython": "IPython"}
CODE_RUNNERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}

# Rows of the list of known traps (issues call them by number) that concern what is built so far: all of them.
APPLICABLE = tuple(range(1, 35))


@dataclass(frozen=True)
class Import:
    module: str
    """What is imported: a module of the package, or the top name of another."""
    at_top: bool
    """Done when the importing module is imported, not later in a function."""
    typing_only: bool
    """Under `if TYPE_CHECKING`."""


def name_of(path: Path) -> str:
    parts = ("zerosum", *path.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(SRC.rglob("*.py"))}


def resolve(module: str, name: str | None = None) -> str:
    if module.split(".")[0] != "zerosum":
        return module.split(".")[0]
    inner = f"{module}.{name}"
    return inner if inner in MODULES else module


def walk(body: list[ast.stmt], at_top: bool = True, typing_only: bool = False) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(resolve(alias.name), at_top, typing_only)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                yield Import(resolve(node.module, alias.name), at_top, typing_only)
        else:
            inside = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            typing = typing_only or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                for child in getattr(node, field, []):
                    inner = child.body if isinstance(child, ast.ExceptHandler | ast.match_case) else [child]
                    yield from walk(inner, inside, typing)


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(walk(ast.parse(MODULES[module].read_text(encoding="utf-8")).body))


def layer(module: str) -> int:
    parts = module.split(".")
    place = parts[1] if len(parts) > 1 else "__init__"
    assert place in LAYER, f"{module}: give it a place in LAYERS of {Path(__file__).name}"
    return LAYER[place]


def parents(module: str) -> Iterator[str]:
    """A module and the packages around it, which are imported before it."""
    parts = module.split(".")
    for n in range(1, len(parts) + 1):
        yield ".".join(parts[:n])


def at_import(module: str) -> set[str]:
    """Everything that importing a module imports: modules of the package, and the top names of others."""
    reached: set[str] = set()
    waiting = list(parents(module))
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        reached.add(current)
        if current in MODULES:
            for found in imports(current):
                if found.at_top and not found.typing_only:
                    waiting += parents(found.module) if found.module in MODULES else [found.module]
    return reached


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    for found in imports(module):
        if found.module in MODULES and found.module != "zerosum":
            assert layer(found.module) >= layer(module), f"{module} may not import {found.module}"


def test_no_module_needs_itself() -> None:
    """Modules can be imported in any order: no circle of imports at the top of modules."""
    state: dict[str, str] = {}

    def visit(module: str, trail: list[str]) -> None:
        assert state.get(module) != "open", " -> ".join([*trail, module])
        if module not in state:
            state[module] = "open"
            for found in imports(module):
                if found.at_top and not found.typing_only and found.module in MODULES:
                    visit(found.module, [*trail, module])
            state[module] = "done"

    for module in MODULES:
        visit(module, [])


@pytest.mark.parametrize("module", ["zerosum", "zerosum.__main__", "zerosum.cli", "zerosum.schedule", "zerosum.errors"])
def test_help_needs_no_torch(module: str) -> None:
    assert module in MODULES
    assert not at_import(module) & HEAVY


def test_the_search_for_imports_finds_them() -> None:
    assert "torch" in at_import("zerosum.losses")
    assert {"zerosum.networks.r3", "torch", "numpy"} <= at_import("zerosum.game")
    assert "jaxtyping" not in at_import("zerosum.networks")
    source = "import os\nif TYPE_CHECKING:\n    import jaxtyping\n"
    source += "try:\n    import av\nexcept ImportError:\n    import re\n"
    found = list(walk(ast.parse(source + "def f():\n    from zerosum import ema\n").body))
    assert found == [
        Import("os", True, False),
        Import("jaxtyping", True, True),
        Import("av", True, False),
        Import("re", True, False),
        Import("zerosum.ema", False, False),
    ]


def test_only_declared_packages_are_imported() -> None:
    """So nothing comes from the tests, and jaxtyping is needed by nobody who trains."""
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {k: v for k, v in project["optional-dependencies"].items() if k != "dev"}
    declared = {
        IMPORT_NAMES.get(name, name).replace("-", "_")
        for line in [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
        for name in [re.match(r"[\w.-]+", line)[0].lower()]  # type: ignore[index]
    }
    for module in MODULES:
        for found in imports(module):
            if found.module not in MODULES and found.module not in sys.stdlib_module_names and not found.typing_only:
                assert found.module in declared, f"{module} imports {found.module}"


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled_and_nobody_asks_hasattr(module: str) -> None:
    assert not {found.module for found in imports(module)} & CODE_RUNNERS
    for name, call in calls(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", f"{module}, line {call.lineno}"
        if name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False", f"{module}, line {call.lineno}"
        assert name != "hasattr", f"{module}, line {call.lineno}: abstract or final, no hasattr (design rule 6)"


def test_the_loop_is_short() -> None:
    lines = (SRC / "trainer.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 250, "mechanics that are not the loop go to modules of their own"


def test_every_applicable_trap_is_tested() -> None:
    comment = re.compile(r"#.*\btrap (\d+)")
    tested: set[int] = set()
    for path in TESTS.rglob("*.py"):
        if path != Path(__file__).resolve():
            for line in path.read_text(encoding="utf-8").splitlines():
                if comment.search(line):
                    tested |= {int(number) for number in re.findall(r"\btrap (\d+)", line)}
    missing = sorted(set(APPLICABLE) - tested)
    assert not missing, f"no test bears the comment '# trap N' for {missing}"
