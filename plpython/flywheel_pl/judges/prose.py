"""Cut what a judge wrote into statements: without its thoughts, its quotations, its markup."""

from __future__ import annotations

import re
from unicodedata import normalize

from flywheel_pl.judges.labelled import OWN_QUOTATION, is_attributed, is_label
from flywheel_pl.judges.said import Statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_THOUGHT = re.compile(
    r"<(/?)(think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis)>"
    r"|◁(/?)(think)▷|\[(/?)(think)\]",
    re.IGNORECASE,
)
_FINAL_CHANNEL = "<|channel|>final<|message|>"
_CHANNEL_END = re.compile(r"<\|(?:return|end|im_end|eot_id)\|>")

_FENCE = re.compile(r"(?m)^[ \t]*(`{3,}|~{3,})[^\n]*$")
_QUOTED = re.compile(
    r"[\"“”„]([^\"“”„\n]{0,400})[\"“”]|[「『]([^「」『』\n]{0,400})[」』]|«([^«»\n]{0,400})»"
    r"|`([^`\n]{0,400})`|(?<![\w'])'((?:[^'\n]|(?<=\w)'(?=\w)){0,400})'(?!\w)"
)
#: A tag or a LaTeX box around a value says what the value is.
_TAG = re.compile(
    r"<(verdict|answer|result|decision|judge?ment|conclusion|label|choice|winner|score|rating|grade)>"
    r"([^<>]{0,200})</\1>",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\boxed\{(?:\\text\{)?([^{}\n]{1,60})\}{1,2}")
_BULLET = re.compile(r"^\s*(?:[-+•·▪●・※]\s+|\(?\d{1,2}[.)]\s+)*")
_FOLDED = str.maketrans({"’": "'", "‘": "'", "\r": None})
_MARKUP = str.maketrans("", "", "*_`#")
# No space is asked for after Japanese marks.
_SENTENCE_END = re.compile(r"(?<=[.!?])[)\]]*\s+|(?<=[。!?])(?=[^\s.!?。)\]」』])|;\s")


def without_thoughts(text: str) -> str:
    """Drop blocks of reasoning; of one that does not end, all that follows."""
    at = text.rfind(_FINAL_CHANNEL)
    if at >= 0:
        return _CHANNEL_END.sub("", text[at + len(_FINAL_CHANNEL) :])
    kept: list[str] = []
    ends: dict[str, int] = {}  # where the last of each closing tag stands
    start = depth = 0
    name = ""
    for match in _THOUGHT.finditer(text):
        closes = bool(match[1] or match[3] or match[5])
        tag = (match[2] or match[4] or match[6]).lower()
        if closes and depth == 0:
            # The opening tag was part of the prompt. In JSON it is somebody's words.
            if not kept and not text.lstrip().startswith(("{", "[", "```")):
                start = match.end()
        elif closes and tag == name:
            depth, start = 0, match.end()
        elif not closes and depth == 0:
            before = text[start : match.start()]
            # Elsewhere it is mentioned, unless it ends.
            closing = re.sub(r"[<\[◁]", r"\g<0>/", match[0])
            if closing not in ends:
                ends[closing] = text.rfind(closing)
            if before.strip() and ends[closing] < match.end():
                continue
            kept.append(before)
            depth, name = 1, tag
    if depth == 0:
        kept.append(text[start:])
    return "\n".join(kept)


def normal(text: str) -> str:
    """Fold full-width and other variants of characters, and typographic apostrophes."""
    return normalize("NFKC", text).translate(_FOLDED)


def without_markup(text: str) -> str:
    """Drop what Markdown emphasizes with."""
    return text.translate(_MARKUP)


def statements(text: str, is_value: Callable[[str], bool]) -> list[Statement]:
    """Cut a normal text into sentences, without what is quoted.

    A quotation that is_value() stays, without its marks: judges put their verdict in quotation
    marks, too.
    """

    text = _TAG.sub(r"\n\1: \2\n", text)
    text = _BOX.sub(r"\nanswer: \1\n", text)
    found: list[Statement] = []
    for number, line in enumerate(_outside_fences(text)):
        if line.lstrip().startswith(">"):
            continue
        before = found[-1] if found else None
        is_announced = before is not None and before.is_line and is_label(before.text)
        line = _unquote(line, is_value, is_announced)
        is_heading = line.lstrip().startswith("#")
        line = _BULLET.sub("", without_markup(line.replace("#", " "))).strip(" \t|")
        sentences = [part.strip() for part in _SENTENCE_END.split(line) if part and part.strip()]
        for place, sentence in enumerate(sentences):
            statement = Statement(sentence, number, place == 0, len(sentences) == 1)
            if before is not None and is_announced and statement.is_line and is_value(sentence):
                statement.text = f"{before.text.rstrip(' :=|-')}: {sentence}"
            statement.is_heading = is_heading
            if found and found[-1].text.endswith("?"):
                statement.question = found[-1].text
            found.append(statement)
    if len(found) == 1:
        found[0].is_all = True
    return found


def _unquote(line: str, is_value: Callable[[str], bool], is_announced: bool) -> str:
    def replace(match: re.Match[str]) -> str:
        inside = match[match.lastindex or 0]
        if is_value(inside):
            return inside
        before = line[max(0, match.start() - 300) : match.start()]
        around = without_markup(before + line[match.end() : match.end() + 9])
        if is_announced and not around.strip(" .。"):
            return inside
        if OWN_QUOTATION.search(without_markup(before)) and not is_attributed(before):
            return inside
        return " … "

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
