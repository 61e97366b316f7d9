"""Find sections of the documentation by words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from operator_api.server.docs.markdown import Section

_WORD = re.compile(r"\w+")
# A word in a page's title counts as much as so many in its text, and so on.
_TITLE, _HEADING = 12, 6
_MOST_WORDS = 8
_EXCERPT = 160


@dataclass(frozen=True, slots=True)
class Place:
    """A section of a page, as it was indexed."""

    url: str
    title: str
    heading: str
    text: str
    words: Counter[str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A section that was found."""

    url: str
    title: str
    heading: str
    excerpt: str


class SearchIndex:
    """The sections of all pages."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._vocabulary: Counter[str] = Counter()

    def add(self, url: str, sections: Sequence[Section]) -> None:
        """Take a page in; its first heading is its title."""
        title = sections[0].heading.text
        for number, section in enumerate(sections):
            heading = section.heading.text
            words = Counter(_words(section.text))
            words.update(dict.fromkeys(_words(heading), _HEADING))
            if number == 0:
                words.update(dict.fromkeys(_words(title), _TITLE))
            address = url if number == 0 else f"{url}#{section.heading.anchor}"
            self._places.append(Place(address, title, heading, section.text, words))
            self._vocabulary.update(words.keys())

    def find(self, query: str, most: int = 20) -> list[Hit]:
        """Return the sections that have all the words, or else some; the best first.

        A word also stands for those that begin with it.
        """
        asked = [*dict.fromkeys(_words(query))][:_MOST_WORDS]
        meant = [self._meanings(word) for word in asked]
        scored = [
            (sum(score > 0 for score in scores), sum(scores), place)
            for place in self._places
            if any(scores := [self._score(place, words) for words in meant])
        ]
        scored.sort(key=lambda each: each[:2], reverse=True)
        return [
            Hit(place.url, place.title, place.heading, _excerpt(place.text, asked))
            for _, _, place in scored[:most]
        ]

    def _meanings(self, word: str) -> dict[str, float]:
        """Return the words that are meant, with the weight of each: whole ones before longer."""
        return {
            each: (1 if each == word else 0.4) * math.log(1 + len(self._places) / count)
            for each, count in self._vocabulary.items()
            if each.startswith(word)
        }

    def _score(self, place: Place, words: dict[str, float]) -> float:
        length = 1 + math.log(1 + len(place.text) / 400)
        return max(
            (
                weight * place.words[each] / (place.words[each] + length)
                for each, weight in words.items()
                if each in place.words
            ),
            default=0.0,
        )


def _words(text: str) -> list[str]:
    """Return the words; a name such as ``rate_limited`` counts as a whole and in parts."""
    found = []
    for word in _WORD.findall(text.lower()):
        found.append(word)
        if "_" in word:
            found += word.split("_")
    return [word for word in found if word]


def _excerpt(text: str, words: Iterable[str]) -> str:
    """Return the text around the first word that was asked for."""
    places = [place for word in words if (place := text.lower().find(word)) >= 0]
    start = max(0, min(places, default=0) - _EXCERPT // 4)
    if start:
        start = text.find(" ", start) + 1
    cut = text[start : start + _EXCERPT]
    if start + _EXCERPT < len(text):
        cut = cut.rpartition(" ")[0] + " …"
    return f"… {cut}" if start else cut
