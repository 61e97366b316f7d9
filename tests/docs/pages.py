"""The pages of the documentation, and the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs"
README = ROOT / "README.md"
# Pages that are made of tables, whose examples tests/docs/test_reference.py runs.
MADE = [
    FOLDER / "reference" / name
    for name in ("errors.md", "operations.md", "commands.md", "settings.md")
]
_PAGES = sorted(FOLDER.rglob("*.md"))
# Whose examples are run.
EXAMPLES = (README, *(page for page in _PAGES if page not in MADE))
# Whose links are followed.
LINKED = (README, *_PAGES, *sorted(path for path in ROOT.glob("*.md") if path != README))

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>\S*).*$")
_REASON = re.compile(r"^# not run: (?P<why>\S.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code. ``follows`` says that it stands right below another one."""

    language: str
    text: str
    line: int
    follows: bool

    @property
    def excuse(self) -> str | None:
        """Why the tests do not run it: its first line, which readers see too."""
        found = _REASON.match(self.text)
        return found["why"] if found else None


@dataclass(frozen=True, slots=True)
class Command:
    """A line that is typed into a shell, and what it is said to print."""

    typed: str
    printed: str
    line: int


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a page, in their order."""
    found: list[Block] = []
    lines = path.read_text().splitlines()
    number, ended = 0, -1
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            if lines[number].strip():
                ended = -1
            number += 1
            continue
        start = number + 1
        end = next(i for i in range(start, len(lines)) if lines[i].strip() == fence["fence"])
        text = "\n".join(line.removeprefix(fence["indent"]) for line in lines[start:end])
        found.append(Block(fence["language"], text, start, follows=ended >= 0))
        number, ended = end + 1, end
    return found


def commands_of(block: Block) -> Iterator[Command]:
    """Return the commands of a session: each begins with ``$``, and is followed by its output."""
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        start = number
        assert lines[number].startswith("$ "), f"line {block.line + start} is no command"
        typed = lines[number].removeprefix("$ ")
        while typed.endswith("\\"):
            number += 1
            typed = f"{typed}\n{lines[number]}"
        number += 1
        printed = []
        while number < len(lines) and not lines[number].startswith("$ "):
            printed.append(lines[number])
            number += 1
        yield Command(typed, "\n".join(printed), block.line + start)
