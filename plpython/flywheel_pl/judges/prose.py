"""Cut what a judge wrote into statements: without its thoughts, its quotations, its markup."""

from __future__ import annotations

import re
from unicodedata import normalize

from flywheel_pl.judges.labelled import OWN_QUOTATION, is_attributed, is_label
from flywheel_pl.judges.said import Statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_THOUGHT = re.compile(
    r"<(/?)(think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)>"
    r"|◁(/?)(think)▷|\[(/?)(think)\]",
    re.IGNORECASE,
)
_SOMETHING = re.compile(r"\S")
_FINAL_CHANNEL = "<|channel|>final<|message|>"
#: What a server should have taken out.
_SPECIAL = re.compile(r"<\|\w{1,30}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")

_FENCE = re.compile(r"(?m)^[ \t]*(`{3,}|~{3,})[^\n]*$")
_QUOTED = re.compile(
    r"[\"“”„]([^\"“”„\n]{0,400})[\"“”]|[「『]([^「」『』\n]{0,400})[」』]|«([^«»\n]{0,400})»"
    r"|`([^`\n]{0,400})`|(?<![\w'])'((?:[^'\n]|(?<=\w)'(?=\w)){0,400})'(?!\w)"
)
#: A tag or a LaTeX box around a value says what the value is.
_TAG = re.compile(
    r"<(/?)(verdict|answer|result|decision|judge?ment|conclusion|label|choice|winner|score|rating"
    r"|grade)>",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\boxed\{(?:\\text\{)?([^{}\n]{1,60})\}{1,2}")
_BULLET = re.compile(r"^\s*(?:[-+•·▪●・※]\s+|\(?\d{1,2}[.)]\s+)*")
_MOST_QUOTATIONS = 100  # of a line that are looked at
_NEAR = 120  # characters before a quotation that tell whose it is
_LEFT_OUT = " … "
_PIECE = 1024
_HEAD, _TAIL = 8_000, 24_000  # characters of a long reply that are looked at
# No space is asked for after Japanese marks.
_SENTENCE_END = re.compile(r"(?<=[.!?。])[)\]]*\s+|(?<=[。!?])(?=[^\s.!?。)\]」』])|;\s")


def without_thoughts(text: str) -> str:
    """Drop blocks of reasoning; of one that does not end, all that follows."""
    at = text.rfind(_FINAL_CHANNEL)
    if at >= 0:
        text = text[at + len(_FINAL_CHANNEL) :]
    text = _SPECIAL.sub("", text)
    kept: list[str] = []
    ends: dict[str, int] = {}  # where the last of each closing tag stands
    is_json = text[:1_000].lstrip()[:1] in ("{", "[", "`")
    start = depth = 0
    name = ""
    for match in _THOUGHT.finditer(text):
        closes = bool(match[1] or match[3] or match[5])
        tag = (match[2] or match[4] or match[6]).lower()
        if closes and depth == 0:
            # The opening tag was part of the prompt. In JSON it is somebody's words.
            if not kept and not is_json:
                start = match.end()
        elif closes and tag == name:
            depth, start = 0, match.end()
        elif not closes and depth == 0:
            closing = match[0][0] + "/" + match[0][1:]
            if closing not in ends:
                ends[closing] = text.rfind(closing)
            # Elsewhere than at the start it is only mentioned, unless it ends.
            is_mentioned = _SOMETHING.search(text, start, match.start()) is not None
            if not is_mentioned or ends[closing] > match.start():
                kept.append(text[start : match.start()])
                depth, name = 1, tag
    if depth == 0:
        kept.append(text[start:])
    return "\n".join(kept)


def normal(text: str) -> str:
    """Fold full-width and other variants of characters, and typographic apostrophes."""
    if not text.isascii():
        # In pieces, because a long run of accents takes the square of its length.
        pieces = range(0, len(text), _PIECE)
        text = "".join(normalize("NFKC", text[at : at + _PIECE]) for at in pieces)
        text = text.replace("\u2019", "'").replace("\u2018", "'")
    return text.replace("\r", "")


def without_markup(text: str) -> str:
    """Drop what Markdown emphasizes with."""
    return text.replace("*", "").replace("_", "").replace("`", "").replace("#", "")


def statements(text: str, is_value: Callable[[str], bool]) -> list[Statement]:
    """Cut a text into sentences, without what is quoted; of a very long one, start and end.

    A quotation that is_value() stays, without its marks: judges put their verdict in quotation
    marks, too.
    """
    found: list[Statement] = []
    for number, line in _window(_outside_fences(text)):
        if not line.lstrip().startswith(">"):
            line = normal(line)
            if "<" in line:
                line = _TAG.sub(lambda tag: "\n" if tag[1] else f"\n{tag[2]}: ", line)
            for part in _BOX.sub(r"\nanswer: \1\n", line).split("\n"):
                _add_line(found, number, part, is_value)
    if len(found) == 1:
        found[0].is_all = True
    return found


def _window(lines: list[str]) -> Iterator[tuple[int, str]]:
    left = sum(map(len, lines)) + len(lines)
    at = 0
    for number, line in enumerate(lines):
        left -= len(line) + 1
        if len(line) > _HEAD + _TAIL:
            line = f"{line[:_HEAD]} … {line[-_TAIL:]}"
        if at < _HEAD or left < _TAIL:
            yield number, line
        at += len(line) + 1


def _add_line(
    found: list[Statement], number: int, line: str, is_value: Callable[[str], bool]
) -> None:
    before = found[-1] if found else None
    is_announced = before is not None and before.is_line and is_label(before.text)
    line = _unquote(line, is_value, is_announced)
    is_heading = line.lstrip().startswith("#")
    # Runs of spaces would cost every pattern that skips them.
    line = " ".join(without_markup(line.replace("#", " ")).split())
    line = _BULLET.sub("", line).strip(" |")
    sentences = [part.strip() for part in _SENTENCE_END.split(line) if part and part.strip()]
    for place, sentence in enumerate(sentences):
        statement = Statement(sentence, number, place == 0, len(sentences) == 1)
        if before is not None and is_announced and statement.is_line and is_value(sentence):
            statement.text = f"{before.text.rstrip(' :=|-')}: {sentence}"
        statement.is_heading = is_heading
        if found and found[-1].text.endswith("?"):
            statement.question = found[-1].text
        found.append(statement)


def _unquote(line: str, is_value: Callable[[str], bool], is_announced: bool) -> str:
    quotations = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal quotations
        quotations += 1
        inside = match[match.lastindex or 0]
        if quotations > _MOST_QUOTATIONS:
            return _LEFT_OUT
        if is_value(inside):
            return inside
        before = line[max(0, match.start() - _NEAR) : match.start()]
        around = without_markup(before + line[match.end() : match.end() + 9])
        if is_announced and not around.strip(" .。"):
            return inside
        is_own = before.rstrip()[-1:] in (":", "=") and OWN_QUOTATION.search(without_markup(before))
        return inside if is_own and not is_attributed(before) else _LEFT_OUT

    return _QUOTED.sub(replace, line)


def _outside_fences(text: str) -> list[str]:
    """Lines, those within code fences empty; of a text that is one fence, those within."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text.split("\n")
    outside: list[str] = []
    inside: list[str] = []
    mark: str | None = None
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if fence is not None and (mark is None or fence[1].startswith(mark)):
            mark = fence[1] if mark is None else None
            outside.append("")
            inside.append("")
        else:
            outside.append(line if mark is None else "")
            inside.append(line if mark is not None else "")
    return outside if any(line.strip() for line in outside) else inside
