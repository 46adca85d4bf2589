"""The dependency rule: every package imports only from the layers below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamchar

ROOT = Path(streamchar.__file__).parent
FOUNDATION = {"errors", "configuration", "frozen", "robust"}
KERNELS = FOUNDATION | {"kernels"}
IMAGE = KERNELS | {"image"}
CHARACTERIZE = IMAGE | {"characterize", "tables"}
CONTRACT = CHARACTERIZE | {"messages", "monitor", "products", "regions", "report"}
SERVICE = CONTRACT | {"stored", "stream", "client", "kafka", "archive"}
TOP = SERVICE | {"dashboard", "telescope", "printable"}
ALLOWED = {
    "errors": set(),
    "frozen": set(),
    "printable": set(),
    "robust": set(),
    "configuration": {"errors"},
    "kernels": KERNELS,
    "image": IMAGE,
    "tables": IMAGE | {"tables"},
    "characterize": IMAGE | {"characterize"},
    "regions": CHARACTERIZE | {"regions"},
    "products": CHARACTERIZE | {"regions", "products"},
    "report": CHARACTERIZE | {"monitor", "report"},
    "stored": CHARACTERIZE | {"stored"},
    "messages": CHARACTERIZE | {"messages"},
    "monitor": CHARACTERIZE | {"messages", "monitor"},
    "kafka": FOUNDATION | {"kafka"},
    "stream": CONTRACT | {"stored", "stream", "kafka"},
    "client": CONTRACT | {"client", "kafka"},
    "archive": CONTRACT | {"client", "archive"},
    "dashboard": TOP,
    "telescope": TOP,
    "broker": FOUNDATION | {"broker"},
    "planning": CHARACTERIZE | {"planning"},
    "cli": TOP | {"cli", "broker", "planning"},
}


def packages_imported(source, package):
    """Top-level streamchar packages that a module names in any import statement, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module] + [
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "streamchar"
            ]
        elif isinstance(node, ast.ImportFrom):
            names = [f"streamchar.{package}"]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("streamchar.")}
    return found


def violations(sources):
    """``(module, package)`` pairs that break the rule."""
    found = []
    for module, source in sources:
        package = module.split("/")[0].removesuffix(".py")
        if package == "__init__":
            continue
        known = packages_imported(source, package) & ALLOWED.keys()
        found += [(module, imported) for imported in sorted(known - ALLOWED[package] - {package})]
    return found


def modules():
    return [(str(path.relative_to(ROOT)), path.read_text()) for path in sorted(ROOT.rglob("*.py"))]


def test_every_package_has_a_place():
    present = {name.split("/")[0].removesuffix(".py") for name, _ in modules()} - {"__init__"}
    assert present <= ALLOWED.keys()


def test_imports_point_downward():
    assert violations(modules()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("image/exposure.py", "from streamchar.characterize import task"),
        ("characterize/task.py", "import streamchar.stream.pool"),
        ("characterize/psf/gaussian.py", "def f():\n    from streamchar import messages"),
        ("stream/pool.py", "from streamchar.broker.server import Server"),
        ("broker/server.py", "from streamchar.messages import topics"),
        ("messages/codec.py", "from streamchar.client import subscribe"),
        ("report/page.py", "from streamchar.stream import products"),
        ("characterize/panels.py", "from streamchar.report import write_report"),
    ],
)
def test_a_forbidden_import_is_caught(module, line):
    assert [name for name, _ in violations([(module, line)])] == [module]


def test_characterization_needs_no_stream():
    code = (
        "import sys, streamchar.characterize\n"
        "from streamchar.characterize import CharacterizeImage\n"
        "print([m for m in ('aiokafka', 'aiohttp', 'asyncio', 'prometheus_client', 'msgpack') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_characterization_and_reports_need_no_plots_until_they_draw():
    code = (
        "import sys, streamchar.report, streamchar.characterize.task, streamchar.characterize.panels\n"
        "print([m for m in ('matplotlib', 'PIL') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
