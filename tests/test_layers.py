"""The house: one floor above the other, imports point down only, heavy things live far away."""

import ast
import importlib
from pathlib import Path

import pytest

import srec

PACKAGE = Path(srec.__file__).parent
FLOORS = {
    "errors": 1,
    "place": 1,
    "crew": 1,
    "progress": 1,
    "parallel": 1,
    "types": 2,
    "text": 2,
    "digest": 2,
    "claims": 2,
    "card": 2,
    "store": 2,
    "lm": 2,
    "stages": 3,
    "data": 3,
    "recommender": 4,
    "explanation": 4,
    "bulk": 5,
    "artifact": 5,
    "evaluation": 6,
    "learn": 7,
    "page": 7,
    "doctor": 7,
    "show": 7,
    "exits": 7,
    "cli": 8,
    "__main__": 9,
}
HEAVY = {"torch", "transformers", "llguidance", "peft", "safetensors"}
HEAVY_FILES = {
    "lm/local.py",
    "lm/prefix.py",
    "lm/attention.py",
    "lm/head.py",
    "lm/guide.py",
    "lm/checkpoint.py",
    "lm/encoder.py",
    "lm/eyes.py",
    "lm/tiny.py",
    "lm/lora.py",
    "lm/merged.py",
    "learn/losses.py",
    "learn/student.py",
    "learn/tuning.py",
    "doctor.py",  # asks torch for GPUs
}
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "vllm"}
SOURCES = sorted(
    path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE
)


def tree_of(source: Path) -> ast.Module:
    return ast.parse((PACKAGE / source).read_text(encoding="utf-8"))


def imports_of(source: Path) -> set[str]:
    """Full names of the modules that a file imports, those inside functions included."""
    found = set()
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ("srec", *source.parts[:-1])[: len(source.parts) + 1 - node.level] if node.level else ()
            module = ".".join([*package, *filter(None, [node.module])])
            found.add(module)
            if module == "srec" or (PACKAGE.parent / Path(*module.split("."))).is_dir():
                found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def stub_names() -> dict[str, str]:
    """Public name -> where `__init__.pyi` says it comes from."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"srec.{node.module or alias.name}" for node in froms for alias in node.names}


def own_imports(source: Path) -> set[str]:
    """`lm`, `stages`, `types`, ...: what a file imports of srec, a public name as the module that it comes from."""
    public = {f"srec.{name}": module for name, module in stub_names().items()}
    return {public.get(name, name).split(".")[1] for name in imports_of(source) if name.startswith("srec.")}


def home(source: Path) -> str:
    return source.parts[0].removesuffix(".py")


def test_every_module_has_a_floor():
    without = {home(source) for source in SOURCES} - FLOORS.keys() - {"testing"}
    assert not without, f"give these a floor in FLOORS: {sorted(without)}"


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_imports_point_down_only(source):
    """A file imports lower floors, and its own; two packages of one floor do not import each other."""
    if home(source) == "testing":
        pytest.skip("may import anything")
    assert ast.unparse(tree_of(source)).count("import srec\n") == 0, "name the module or the name that is meant"
    packages = {name for name in FLOORS if (PACKAGE / name).is_dir()}
    here = home(source)
    for name in sorted(own_imports(source) - {here, "__version__"}):
        assert name in FLOORS, f"srec/{source} imports srec.{name}, which has no floor"
        assert FLOORS[name] <= FLOORS[here], (
            f"srec/{source} (floor {FLOORS[here]}) imports srec.{name} (floor {FLOORS[name]})"
        )
        neighbours = FLOORS[name] == FLOORS[here] and {name, here} <= packages
        assert not neighbours, f"srec/{source} imports srec.{name}, a package of its own floor"


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_heavy_packages_are_imported_in_named_files_only(source):
    heavy = {name.split(".")[0] for name in imports_of(source)} & HEAVY
    assert not heavy or source.as_posix() in HEAVY_FILES


@pytest.mark.parametrize("source", [*SOURCES, Path("__init__.py")], ids=str)
def test_nothing_unpickles_evaluates_or_loads_vllm(source):
    assert not {name.split(".")[0] for name in imports_of(source)} & FORBIDDEN_MODULES
    calls = {
        node.func.id
        for node in ast.walk(tree_of(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & FORBIDDEN_CALLS


@pytest.mark.parametrize(("name", "module"), sorted(stub_names().items()))
def test_every_public_name_can_be_imported(name, module):
    there = importlib.import_module(module)
    assert getattr(srec, name) is (there if module == f"srec.{name}" else getattr(there, name))


def test_the_public_names_are_those_of_the_stub():
    assert set(srec.__all__) == stub_names().keys()
    assert set(dir(srec)) >= stub_names().keys()
