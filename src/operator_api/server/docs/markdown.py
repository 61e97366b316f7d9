"""Markdown to HTML: anchors on headings, colours in code, links that lead around the site."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name

_LEXERS = {"console": "console", "shell": "bash", "python": "python", "json": "json"}
_FORMATTER = HtmlFormatter(nowrap=True)
_COMMENT = re.compile(r"^<!--.*?-->$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, with the name of its anchor."""

    level: int
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, as plain text, for the search."""

    heading: Heading
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link of a page, under the heading that it stands under."""

    heading: str
    text: str
    target: str


def slug(text: str) -> str:
    """Name a heading's anchor as code hosts do."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")


def headings_of(tokens: Sequence[Token]) -> list[Heading]:
    """Return the headings; one that comes again is numbered."""
    found: list[Heading] = []
    seen: dict[str, int] = {}
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            text = _plain(following)
            name = slug(text)
            number = seen.get(name, 0)
            seen[name] = number + 1
            anchor = f"{name}-{number}" if number else name
            found.append(Heading(int(token.tag[1]), anchor, text))
    return found


def sections_of(source: str) -> list[Section]:
    """Divide a page at its headings."""
    tokens = parse(source)
    headings = iter(headings_of(tokens))
    sections: list[tuple[Heading, list[str]]] = []
    for token, before in zip(tokens, [None, *tokens], strict=False):
        if token.type == "heading_open":
            sections.append((next(headings), []))
        elif sections and token.type == "fence":
            sections[-1][1].append(token.content)
        elif sections and token.type == "inline" and before and before.type != "heading_open":
            sections[-1][1].append(_plain(token))
    return [Section(heading, " ".join(" ".join(texts).split())) for heading, texts in sections]


def links_of(source: str) -> list[Link]:
    """Return the links of a page, in their order."""
    found, heading = [], ""
    tokens = parse(source)
    for token, before in zip(tokens, [None, *tokens], strict=False):
        if token.type != "inline":
            continue
        if before and before.type == "heading_open":
            heading = _plain(token)
        children = token.children or []
        for place, child in enumerate(children):
            if child.type == "link_open":
                end = next(i for i in range(place, len(children)) if _closes(children[i]))
                text = "".join(each.content for each in children[place:end])
                found.append(Link(heading, text, str(child.attrs["href"])))
    return found


def parse(source: str) -> list[Token]:
    """Return the tokens of a page. What is between ``<!--`` and ``-->`` is not for readers."""
    return _PARSER.parse(_COMMENT.sub("", source))


def render(source: str, link: Callable[[str], str]) -> str:
    """Return the page as HTML; ``link`` says where a link's target is on the site."""
    tokens = parse(source)
    headings = iter(headings_of(tokens))
    for token in tokens:
        if token.type == "heading_open":
            token.attrSet("id", next(headings).anchor)
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", link(str(child.attrs["href"])))
    html: str = _PARSER.renderer.render(tokens, _PARSER.options, {})
    return html


def _closes(token: Token) -> bool:
    return token.type == "link_close"


def _plain(token: Token) -> str:
    return "".join(
        " " if child.type in {"softbreak", "hardbreak"} else child.content
        for child in token.children or ()
    )


# --- how single things are rendered ---


class _Renderer(RendererHTML):
    """The library's, with a frame around what can be wider than the page."""

    def fence(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, _env: EnvType) -> str:
        """Colour code by its language. What can be scrolled can also be reached by keyboard."""
        token = tokens[idx]
        language = token.info.strip()
        lexer = _LEXERS.get(language)
        code = escape(token.content)
        if lexer is not None:
            code = highlight(token.content, get_lexer_by_name(lexer, stripnl=False), _FORMATTER)
        label = escape(language or "text")
        return (
            f'<div class="code" data-language="{label}">'
            f'<pre tabindex="0" aria-label="{label}" role="region"><code>{code}</code></pre>'
            "</div>\n"
        )

    def table_open(self, *_given: Any) -> str:
        """Let a wide table scroll by itself."""
        return '<div class="table" tabindex="0" role="region" aria-label="table"><table>\n'

    def table_close(self, *_given: Any) -> str:
        """End the frame."""
        return "</table></div>\n"

    def heading_close(
        self, tokens: Sequence[Token], idx: int, _options: OptionsDict, _env: EnvType
    ) -> str:
        """Put a link to the heading behind it."""
        token = tokens[idx]
        opening = next(each for each in reversed(tokens[:idx]) if each.type == "heading_open")
        if token.tag == "h1":
            return "</h1>\n"
        anchor, text = escape(str(opening.attrs["id"])), escape(_plain(tokens[idx - 1]))
        return (
            f' <a class="anchor" href="#{anchor}" aria-label="Link to {text}">#</a></{token.tag}>\n'
        )


_PARSER = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
