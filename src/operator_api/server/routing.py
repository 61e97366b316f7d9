"""Find the operation of a path and a method, from the table of operations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from operator_api.contract.errors import METHOD_NOT_ALLOWED, UNKNOWN_ENDPOINT, Problem
from operator_api.contract.operations import Operation
from operator_api.contract.suggest import nearest


@dataclass(slots=True)
class Route:
    """One path, and the operations that it has by method."""

    path: str
    variables: tuple[str, ...]
    operations: dict[str, Operation] = field(default_factory=dict)

    @property
    def allowed(self) -> list[str]:
        """All methods of the path, with the ones that come by themselves."""
        methods = {*self.operations, "OPTIONS"}
        return sorted(methods | {"HEAD"} if "GET" in methods else methods)


@dataclass(slots=True)
class _Node:
    """One step of a path: the steps that can follow it by name, and one that is a variable."""

    named: dict[str, "_Node"] = field(default_factory=dict)
    variable: "_Node | None" = None
    route: Route | None = None


class Router:
    """A tree of path segments. A named segment goes before a variable one."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root = _Node()
        self._routes: list[Route] = []
        for operation in operations:
            self._route_of(operation).operations[operation.method] = operation

    def _route_of(self, operation: Operation) -> Route:
        node, variables = self._root, []
        for segment in operation.path.split("/")[1:]:
            if segment.startswith("{"):
                variables.append(segment.strip("{}"))
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.named.setdefault(segment, _Node())
        if node.route is None:
            node.route = Route(operation.path, tuple(variables))
            self._routes.append(node.route)
        return node.route

    def find(self, segments: Iterable[str]) -> tuple[Route, Mapping[str, str]] | None:
        """Return the route of a path's segments, and the values of its variables."""
        node = self._root
        values = []
        for segment in segments:
            following = node.named.get(segment)
            if following is None:
                following = node.variable
                if following is None or not segment:
                    return None
                values.append(segment)
            node = following
        if node.route is None:
            return None
        return node.route, dict(zip(node.route.variables, values, strict=True))

    def nearest_path(self, path: str, scopes: frozenset[str] | None) -> str | None:
        """Return the path that was most likely meant, of those that the scopes allow to use.

        Without a token (``scopes`` is None) nothing is left out. Values that stand in the place
        of a variable are kept out: the path is the reference's, such as ``/v1/users/{user_id}``.
        """
        usable = [route.path for route in self._routes if _usable(route, scopes)]
        bare = "/" + path.strip("/")
        for candidate in (bare, f"/v1{bare}"):
            found = self.find(candidate.split("/")[1:])
            if found is not None and found[0].path in usable:
                return found[0].path
        return nearest(path, usable)


def _usable(route: Route, scopes: frozenset[str] | None) -> bool:
    return scopes is None or any(
        operation.public or operation.scope is None or operation.scope in scopes
        for operation in route.operations.values()
    )


def unknown_endpoint(suggestion: str | None) -> Problem:
    """Return the 404 of a path that does not exist."""
    metadata = {"did_you_mean": suggestion} if suggestion else {}
    return Problem(UNKNOWN_ENDPOINT, metadata)


def method_not_allowed(method: str, route: Route) -> Problem:
    """Return the 405, with all that the path allows."""
    return Problem(METHOD_NOT_ALLOWED, {"method": method, "allowed": route.allowed})
