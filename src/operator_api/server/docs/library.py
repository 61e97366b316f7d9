"""Which pages there are, in what order, and where a link from one to another leads."""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from operator_api.contract.errors import CATALOGUE
from operator_api.contract.pages import LOCAL
from operator_api.server.catalogue import page_of
from operator_api.server.docs.markdown import headings_of, links_of, parse

FOLDER = Path(__file__).parent / "pages"
INDEX = "index.md"
# On a code host all errors are on one page; here each has its own.
_ALL_ERRORS = "reference/errors.md"
ERRORS = "errors"
API = "api"
# Pages that are made here, and that a code host therefore has not.
_MADE_HERE = {_ALL_ERRORS: ERRORS}


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the table of contents."""

    part: str
    title: str
    path: str


class Library:
    """The pages, by path: ``""`` is the first one, ``client/errors`` that of that file.

    ``docs/index.md`` is the table of contents: its headings are the parts, its links the pages.
    ``public_url`` is where readers reach the server.
    """

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url
        self.prefix = urlsplit(public_url).path

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """The pages that are files."""
        found = {file.relative_to(FOLDER).as_posix(): file for file in sorted(FOLDER.rglob("*.md"))}
        return {path_of(name): file for name, file in found.items() if name not in _MADE_HERE}

    @cached_property
    def contents(self) -> list[Entry]:
        """The table of contents, in the order of reading."""
        index = self.source("")
        first = Entry("", headings_of(parse(index))[0].text, "")
        linked = (
            Entry(link.heading, link.text, path_of(link.target))
            for link in links_of(index)
            if is_page(link.target)
        )
        return [first, *{entry.path: entry for entry in linked}.values()]

    @cached_property
    def parts(self) -> list[tuple[str, list[Entry]]]:
        """The table of contents, part by part."""
        parts: dict[str, list[Entry]] = {}
        for entry in self.contents:
            parts.setdefault(entry.part, []).append(entry)
        return [*parts.items()]

    @cached_property
    def paths(self) -> list[str]:
        """All pages, in the order of reading; those of the errors last."""
        return [
            *dict.fromkeys([*(entry.path for entry in self.contents), *self.files]),
            *(f"{ERRORS}/{reason}" for reason in CATALOGUE),
        ]

    def source(self, path: str) -> str:
        """Return a page as Markdown, with this server's address in its examples."""
        reason = path.removeprefix(f"{ERRORS}/")
        if reason in CATALOGUE:
            return page_of(CATALOGUE[reason], self._public_url)
        file = self.files.get(path)
        text = errors_index() if file is None else file.read_text(encoding="utf-8")
        return text.replace(LOCAL, self._public_url)

    def has(self, path: str) -> bool:
        """Say whether there is such a page."""
        return path in self.files or path == ERRORS or path.removeprefix("errors/") in CATALOGUE

    def url(self, path: str) -> str:
        """Return a page's address, as the links on the site have it."""
        return f"{self.prefix}/docs/{path}".rstrip("/")

    def markdown_url(self, path: str) -> str:
        """Return the address of a page's Markdown, beside which its relative links are right."""
        file = self.files.get(path)
        name = f"{path}.md" if file is None else file.relative_to(FOLDER).as_posix()
        return f"{self.prefix}/docs/{name}"

    def link(self, path: str, target: str) -> str:
        """Return where a link of a page leads on the site."""
        if not is_page(target):
            return target.replace(f"{self._public_url}/docs", f"{self.prefix}/docs", 1)
        file, _, anchor = target.partition("#")
        folder = posixpath.dirname(self._file_name(path))
        name = posixpath.normpath(posixpath.join(folder, file))
        if name == _ALL_ERRORS and anchor in CATALOGUE:
            return self.url(f"{ERRORS}/{anchor}")
        return self.url(path_of(name)) + (f"#{anchor}" if anchor else "")

    def _file_name(self, path: str) -> str:
        file = self.files.get(path)
        return f"{path}.md" if file is None else file.relative_to(FOLDER).as_posix()


def is_page(target: str) -> bool:
    """Say whether a link leads to a page of Markdown."""
    return "://" not in target and target.partition("#")[0].endswith(".md")


def path_of(name: str) -> str:
    """Return the path of a file's page: ``client/errors`` for client/errors.md."""
    if name in _MADE_HERE:
        return _MADE_HERE[name]
    path = name.partition("#")[0].removesuffix(".md")
    return posixpath.dirname(path) if posixpath.basename(path) == "index" else path


def errors_index() -> str:
    """Return the page that lists every reason."""
    return "\n".join(_errors_index())


def _errors_index() -> Iterator[str]:
    yield from ("# Errors", "", "Every reason that an error of this API can have.", "")
    for of_field, title in ((False, "Reasons of answers"), (True, "Reasons of single fields")):
        kinds = [kind for kind in CATALOGUE.values() if kind.of_field is of_field]
        yield from (f"## {title}", "")
        yield from ("| status | reason | what it means | retry? |", "| --- | --- | --- | --- |")
        for kind in kinds:
            retry = "yes" if kind.retryable else "no"
            link = f"[{kind.reason}](reference/errors.md#{kind.reason})"
            yield f"| {kind.status} | {link} | {kind.title} | {retry}, `{kind.action}` |"
        yield ""
