"""What loading the client loads, and what the package shows."""

import inspect
import subprocess
import sys

import pytest

import operator_api
from operator_api import client
from operator_api.client import errors

# The server's packages, and what the client needs for some of its work only.
FOREIGN = ("orjson", "uvicorn", "uvloop", "httptools", "sqlalchemy", "alembic", "starlette")
LATER = ("typer", "rich", "cryptography", "sqlite3", "operator_api.server", "operator_api.cli")


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


def test_the_package_alone_loads_nothing() -> None:
    loaded = loaded_by("import operator_api")
    assert not loaded & {"pydantic", "httpx2", "operator_api.client", *FOREIGN, *LATER}


def test_the_client_loads_nothing_of_the_server() -> None:
    loaded = loaded_by("from operator_api import OperatorAI, AsyncOperatorAI")
    assert "httpx2" in loaded
    assert not loaded & {*FOREIGN, *LATER}


def test_the_package_shows_what_the_client_has() -> None:
    public = {name for name, value in vars(client).items() if not inspect.ismodule(value)}
    assert {name for name in public if not name.startswith("_")} == set(operator_api.__all__)
    for name in operator_api.__all__:
        assert getattr(operator_api, name) is getattr(client, name)


def test_every_exception_can_be_imported() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.OperatorError)
    }
    assert raised <= set(operator_api.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = operator_api.nothing_such
    with pytest.raises(ImportError, match="Nothing"):
        exec("from operator_api import Nothing")  # noqa: S102 - as a program would
