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
    """A section of a page, as it was indexed; ``length`` damps what long ones have."""

    url: str
    title: str
    heading: str
    text: str
    length: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A section that was found."""

    url: str
    title: str
    heading: str
    excerpt: str


class SearchIndex:
    """The sections of all pages, by the words that they have."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        # Of each word: in which places it is, and how much it counts there.
        self._found_in: dict[str, list[tuple[int, int]]] = {}

    def add(self, url: str, sections: Sequence[Section]) -> None:
        """Take a page in; its first heading is its title."""
        title = sections[0].heading.text
        for number, section in enumerate(sections):
            heading = section.heading.text
            words = Counter(_words(section.text))
            words.update(dict.fromkeys(_words(heading), _TITLE if number == 0 else _HEADING))
            address = url if number == 0 else f"{url}#{section.heading.anchor}"
            length = 1 + math.log(1 + len(section.text) / 400)
            for word, count in words.items():
                self._found_in.setdefault(word, []).append((len(self._places), count))
            self._places.append(Place(address, title, heading, section.text, length))

    def find(self, query: str, most: int = 20) -> list[Hit]:
        """Return the sections that have all the words, or else some; the best first.

        A word of two letters or more also stands for those that begin with it.
        """
        asked = [*dict.fromkeys(_words(query))][:_MOST_WORDS]
        scores = [self._scores(word) for word in asked]
        totals: dict[int, tuple[int, float]] = {}
        for place, score in (each for found in scores for each in found.items()):
            words, total = totals.get(place, (0, 0.0))
            totals[place] = (words + 1, total + score)
        best = sorted(totals, key=totals.__getitem__, reverse=True)[:most]
        return [
            Hit(place.url, place.title, place.heading, _excerpt(place.text, asked))
            for place in (self._places[number] for number in best)
        ]

    def _scores(self, word: str) -> dict[int, float]:
        """Score each place that has the word, or one that is meant: a whole one before longer."""
        scores: dict[int, float] = {}
        meant = [word] if len(word) == 1 else [w for w in self._found_in if w.startswith(word)]
        for each in meant:
            found = self._found_in.get(each, ())
            weight = (1 if each == word else 0.4) * math.log(
                1 + len(self._places) / (len(found) or 1)
            )
            for place, count in found:
                score = weight * count / (count + self._places[place].length)
                scores[place] = max(score, scores.get(place, 0.0))
        return scores


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
