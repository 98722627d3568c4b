"""Which of the numbers in a file's name is its frame, judged by the names beside it.

What comes in: the names of files in one folder. What goes out: the sequences they form, each as the text before and
after the frame number and a name per number. It opens nothing and lists no folder.

A library's rule, the last number before the extension with a dash as its sign, reads `A001-1001.exr` backwards in time
and finds no frame in `1001_L.exr`. Here the neighbours decide: the frame is the number that changes where the rest of a
name does not. Of several that change, one that stands alone and is padded goes before one that belongs to a word or is
short, and then the last one goes first. `v002` is a version. A dash is a sign where another separator stands before it,
or where frame 0 of the same name has no dash (Blender's `render-0001` beside `render0000`).
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

DIGITS = re.compile(r"[0-9]+")
LONGEST = 9
"""Digits of a frame number; longer ones are times of day, hashes or serial numbers."""
BEFORE_A_SIGN = "._-"
PADDED = 3
"""From this many digits on, a number that stands alone looks like a frame."""


@dataclasses.dataclass(frozen=True)
class NamedFrames:
    """Names alike but for one number: `prefix + number + suffix`. `numbers` holds each number's text, by name."""

    prefix: str
    suffix: str
    numbers: dict[str, str]

    @property
    def numbered(self) -> bool:
        return any(self.numbers.values())

    def width(self, given: str = "") -> int:
        """How many digits these names are padded to: as `given`, else as fits most of them."""
        texts = [given] if given.lstrip("-").startswith("0") and len(given) > 1 else self.numbers.values()
        # A minus sign may be one of the digits.
        lengths = {length for text in texts for length in (len(text.lstrip("-")), len(text))}
        return max(sorted(lengths), key=lambda width: sum(fits(text, width) for text in self.numbers.values()))

    @property
    def pattern(self) -> str:
        """As an artist writes it, `plate.####.exr`; one name where a pattern would be read differently."""
        first = next(iter(self.numbers))
        if not self.numbered or re.search(r"[#@%$*?<>{}]", self.prefix + self.suffix):
            return first
        return f"{self.prefix}{'#' * self.width()}{self.suffix}"


def fits(text: str, width: int) -> bool:
    """Whether a number's text is padded to `width` digits; a minus sign may count as one (printf) or not (Blender).

    >>> fits("0999", 4), fits("10000", 4), fits("01000", 4), fits("-0001", 4), fits("-001", 4), fits("7", 4)
    (True, True, False, True, True, False)
    """
    digits = text.lstrip("-")
    widths = (width - 1, width) if text.startswith("-") else (width,)
    return len(digits) in widths or (len(digits) > width and not digits.startswith("0"))


def group(names: Iterable[str]) -> list[NamedFrames]:
    """All sequences among `names`, and each unnumbered name as one of its own; ordered by name."""
    listed = sorted(set(names))
    runs = _runs(listed)
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    beside: dict[tuple[str, str], int] = defaultdict(int)
    for of_name in runs.values():
        for run in of_name:
            beside[run.alike] += 1
    for name in listed:
        frame = _frame_of(runs[name], beside)
        found[frame.alike if frame else (name, "")][name] = frame.text if frame else ""
    return [NamedFrames(prefix, _suffix(numbers, suffix), numbers) for (prefix, suffix), numbers in found.items()]


def around(name: str, names: Iterable[str]) -> NamedFrames:
    """The sequence that `name` is one frame of, whether or not it is among `names` itself."""
    return next(found for found in group([*names, name]) if name in found.numbers)


def matching(prefix: str, suffix: str, names: Sequence[str]) -> NamedFrames:
    """The names that a pattern stands for: `prefix`, a number, `suffix`, in which upper and lower case may differ."""
    form = re.compile(rf"{re.escape(prefix)}(-?[0-9]{{1,{LONGEST}}}){re.escape(suffix)}", re.IGNORECASE)
    matched = {n: m[1] for n in names if (m := form.fullmatch(n)) and n.startswith(prefix)}
    zero = any(int(text) == 0 for text in matched.values())
    signs = zero or not prefix or prefix[-1] in BEFORE_A_SIGN
    numbers = {name: text for name, text in matched.items() if signs or not text.startswith("-")}
    return NamedFrames(prefix, suffix, numbers)


@dataclasses.dataclass(frozen=True)
class _Run:
    """One run of digits in a name, as the frame number it could be."""

    prefix: str
    text: str
    suffix: str

    @property
    def alike(self) -> tuple[str, str]:
        stem, dot, extension = self.suffix.rpartition(".")
        return self.prefix, stem + dot + extension.lower()

    @property
    def rank(self) -> int:
        """How much a number looks like a frame: 0 a version, 1 part of a word, 2 short, 3 padded and on its own."""
        if re.search(r"(^|[^A-Za-z])[vV]$", self.prefix):
            return 0
        if self.prefix[-1:].isalpha() or self.suffix[:1].isalpha():
            return 1
        return 3 if len(self.text.lstrip("-")) >= PADDED else 2

    @property
    def alone_is_a_frame(self) -> bool:
        """Whether this number counts as a frame with no other name to compare with, as in `render0001.exr`."""
        last = self.suffix.count(".") == 1 and self.suffix.startswith(".")
        return self.rank >= 2 or (self.rank == 1 and last and len(self.text) >= PADDED)


def _runs(names: Sequence[str]) -> dict[str, list[_Run]]:
    """Every number of every name but those in its extension, with its sign."""
    found = {}
    zeros = set()
    for name in names:
        stem = len(name) - len(name.rpartition(".")[2]) if "." in name.strip(".") else len(name)
        runs = [m for m in DIGITS.finditer(name, 0, stem) if len(m[0]) <= LONGEST]
        found[name] = [_Run(name[: m.start()], m[0], name[m.end() :]) for m in runs]
        zeros |= {run.alike for run in found[name] if int(run.text) == 0}
    return {name: [_signed(run, zeros) for run in runs] for name, runs in found.items()}


def _signed(run: _Run, zeros: set[tuple[str, str]]) -> _Run:
    if not run.prefix.endswith("-"):
        return run
    signed = _Run(run.prefix[:-1], f"-{run.text}", run.suffix)
    sign = not signed.prefix or signed.prefix[-1] in BEFORE_A_SIGN or signed.alike in zeros
    return signed if sign else run


def _frame_of(runs: Sequence[_Run], beside: dict[tuple[str, str], int]) -> _Run | None:
    changing = [run for run in runs if beside[run.alike] > 1 and run.rank > 0]
    alone = [run for run in runs if run.alone_is_a_frame]
    return max(enumerate(changing or alone), key=lambda item: (item[1].rank, item[0]), default=(0, None))[1]


def _suffix(numbers: dict[str, str], suffix: str) -> str:
    """The suffix as most names spell it: their extension may be in upper case."""
    spelled = [name[len(name) - len(suffix) :] for name in numbers] if suffix else [""]
    return max(sorted(set(spelled)), key=spelled.count)
