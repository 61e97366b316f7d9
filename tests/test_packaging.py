"""What `pip install operator-api` brings: the wheel, built and installed for real."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import operator_api

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "operator_api"

# Import names, not the names they are installed by.
SERVER_PACKAGES = (
    "alembic",
    "httptools",
    "jinja2",
    "orjson",
    "pydantic_settings",
    "sqlalchemy",
    "uvicorn",
    "uvloop",
)

# Making an environment and installing into it takes as long as the index takes to answer.
pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path) -> str:
    """Runs a command and gives what it printed; a failure shows what it complained of."""
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that has the base lock and the wheel."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", environment)
    programs = environment / "bin"
    install = (programs / "python", "-m", "pip", "install", "--quiet")
    run(*install, "--require-hashes", "--requirement", ROOT / "requirements" / "base.txt")
    run(*install, "--no-deps", wheel)
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    left_out = {"__pycache__", "vendor"}  # what the set-up step fetches is not ours to hand on
    ours = {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and left_out.isdisjoint(path.parts)
    }
    pages = PACKAGE / "server" / "docs" / "pages"  # a link, to docs/
    ours |= {str(path.relative_to(PACKAGE.parent)) for path in pages.rglob("*.md")}
    held = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert held - metadata == ours


def test_the_wheel_holds_what_is_easily_left_out(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel).namelist()
    assert "operator_api/py.typed" in held
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    assert any(name.startswith("operator_api/server/database/migrations/") for name in held)


def test_the_base_install_has_what_the_base_lock_names_and_no_more(installed: Path) -> None:
    listed = json.loads(run(installed / "python", "-m", "pip", "list", "--format=json"))
    present = {package["name"].lower().replace("_", "-") for package in listed}
    locked = {
        line.partition("==")[0]
        for line in (ROOT / "requirements" / "base.txt").read_text().splitlines()
        if line[:1].isalnum()
    }
    # What a new environment brings by itself.
    present -= {"pip", "setuptools"}
    assert "operator-api" in present
    assert present - {"operator-api"} <= locked


def test_the_base_install_imports_and_has_no_server_package(installed: Path) -> None:
    program = f"""
import importlib.util, pkgutil
import operator_api, operator_api.contract
for module in pkgutil.walk_packages(operator_api.contract.__path__, "operator_api.contract."):
    importlib.import_module(module.name)
print([name for name in {SERVER_PACKAGES} if importlib.util.find_spec(name)])
"""
    assert run(installed / "python", "-I", "-c", program).strip() == "[]"


def test_the_base_install_runs_the_program(installed: Path) -> None:
    assert operator_api.__version__ in run(installed / "operator-api", "version")
