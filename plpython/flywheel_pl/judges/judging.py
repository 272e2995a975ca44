"""The course of one judgement: which call comes next, and what the replies come to.

Nothing here calls anybody. Who does asks body() for the next request, hands in each reply with
accept() and each failure with refuse(), and takes result() when body() is None.
"""

from __future__ import annotations

import math

from flywheel_pl.judges import mending, reader
from flywheel_pl.verdict import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from flywheel_pl.judges.reader import Reading
    from flywheel_pl.judges.reply import CallFailed, Reply

#: What the kind of a CallFailed may be.
ERROR_CLASSES = ("transient", "permanent", "configuration")

_MAX_REPLY = 100_000
_MAX_TOKENS = 2_000_000_000  # what an integer column holds
_SMALLEST = 1e-37  # of what PostgreSQL's real can hold
_QUOTED = 200


class Judging:
    """One job: a prompt, how its reply is read, and how many votes are taken.

    ``without`` names what the endpoint is known to refuse, as another job's ``without`` found it.
    """

    __slots__ = (
        "_again",
        "_body",
        "_cached",
        "_choices",
        "_examples",
        "_input",
        "_messages",
        "_output",
        "_replies",
        "_requests",
        "_seconds",
        "_threshold",
        "_unread",
        "_votes",
        "_wanted",
        "without",
    )

    def __init__(self, request: dict[str, Any], without: Iterable[str] = ()) -> None:
        reading = request.get("reading") or {}
        self._choices: dict[str, bool] | None = reading.get("choices") or None
        self._threshold: float | None = reading.get("threshold")
        self._wanted = max(1, int(request.get("votes") or 1))
        self._examples: list[int] = list(request.get("examples") or [])
        self._messages: list[Any] = list(request["body"].get("messages") or [])
        self._body: dict[str, Any] = dict(request["body"])
        for change in without:
            self._body = mending.apply(change, self._body) or self._body
        self.without: tuple[str, ...] = tuple(without)
        self._votes: list[tuple[Reading, float | None]] = []
        self._unread: list[str] = []  # the votes that were dropped: what they said first
        self._again: str | None = None
        self._replies: list[str] = []
        self._requests = self._input = self._cached = self._output = 0
        self._seconds = 0.0

    def body(self) -> dict[str, Any] | None:
        """The body of the next call; None when all votes are in."""
        if len(self._votes) + len(self._unread) >= self._wanted:
            return None
        body = dict(self._body)
        # An empty message of the assistant is refused by many: it is asked the same again.
        if self._again is not None and self._again.strip():
            body["messages"] = [
                *body.get("messages", ()),
                {"role": "assistant", "content": self._again},
                {"role": "user", "content": self._question()},
            ]
        return body

    def accept(self, reply: Reply, seconds: float) -> None:
        """Take in the reply to the latest body(), which took so many seconds."""
        self._requests += 1
        self._seconds += seconds
        self._input = min(self._input + reply.input_tokens, _MAX_TOKENS)
        self._cached = min(self._cached + reply.cached_tokens, self._input)
        self._output = min(self._output + reply.output_tokens, _MAX_TOKENS)
        text = clean(reply.text, _MAX_REPLY)
        self._replies.append(text)
        reading = reader.read(reply.text, self._choices, self._threshold)
        if reading is not None:
            self._votes.append((reading, _probability(reading, reply.tokens)))
            self._again = None
        elif self._again is None:
            self._again = text
        else:
            self._unread.append(self._again if self._again.strip() else text)
            self._again = None

    def refuse(self, failure: CallFailed) -> bool:
        """Take in a failure of the latest body(); True if the next body() mends it."""
        self._requests += 1
        change = mending.change_for(failure.parameter, failure.message, self._body, self.without)
        return change is not None and self._change(change)

    def _change(self, change: str) -> bool:
        changed = mending.apply(change, self._body)
        if changed is None:
            return False
        self._body = changed
        self.without = (*self.without, change)
        return True

    def result(self) -> dict[str, Any]:
        """What the job comes to, as complete_jobs() takes it."""
        milliseconds = round(self._seconds * 1000, 3)
        result: dict[str, Any] = {
            "status": "error",
            "score": None,
            "reason": None,
            "confidence": None,
            "error": None,
            "predicted_label": None,
            "duration_ms": milliseconds,
            "run": self.run(),
        }
        passed = [vote for vote in self._votes if vote[0].passed]
        failed = [vote for vote in self._votes if not vote[0].passed]
        details: dict[str, Any] = {}
        if self._examples:
            details["examples"] = self._examples
        if self._wanted > 1:
            details["votes"] = {
                "passed": len(passed),
                "failed": len(failed),
                "unreadable": self._wanted - len(self._votes),
            }
        if details:
            result["details"] = details
        problem = self._problem(len(passed), len(failed))
        if problem is not None:
            result["error"] = clean(problem)
            return result
        winners = passed if len(passed) > len(failed) else failed
        result["status"] = "passed" if winners is passed else "failed"
        result["score"] = _median([r.score for r, _ in self._votes if r.score is not None])
        result["reason"] = next((r.reason for r, _ in winners if r.reason), None)
        labels = [r.label for r, _ in winners if r.label is not None]
        if self._choices and labels:
            result["predicted_label"] = max(labels, key=labels.count)
        result["confidence"] = (
            winners[0][1] if self._wanted == 1 else len(winners) / len(self._votes)
        )
        return result

    def _problem(self, passed: int, failed: int) -> str | None:
        """Why there is no verdict; None if there is one."""
        readable = passed + failed
        if readable * 2 > self._wanted and passed != failed:
            return None
        if readable and passed == failed:
            problem = f"the votes are even: {passed} passed, {failed} failed"
            if not self._unread:
                return problem
        elif not self._unread:
            return "no reply has come yet"
        elif self._wanted == 1:
            problem = "no verdict could be read in the judge's reply, nor when it was asked again"
        else:
            problem = f"a verdict could be read in only {readable} of {self._wanted} votes"
        text = self._unread[0].strip()
        if not text:
            return f"{problem}: the reply was empty"
        start = " ".join(text[: _QUOTED * 2].split())
        start = start if len(start) <= _QUOTED else start[: _QUOTED - 3] + "..."
        return f'{problem}; a reply starts: "{start}"'

    def run(self) -> dict[str, Any]:
        """What happened so far, for the run log.

        The database looks at the examples: one that was forgotten meanwhile is not written down.
        """
        shown = {"examples": self._examples} if self._examples else {}
        return shown | {
            "messages": self._messages,
            "replies": list(self._replies),
            "requests": self._requests,
            "input_tokens": self._input,
            "cached_tokens": self._cached,
            "output_tokens": self._output,
            "latency_ms": round(self._seconds * 1000, 3),
        }

    def _question(self) -> str:
        start = "I could not read a verdict in that. Reply with only"
        response_format = self._body.get("response_format")
        if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
            return f"{start} the JSON object that was asked for, and nothing else."
        if self._choices:
            labels = ", ".join(f'"{label}"' for label in self._choices)
            return f'{start} a JSON object {{"verdict": ...}}; the verdict is one of {labels}.'
        if self._threshold is not None:
            return f'{start} a JSON object {{"verdict": ...}}; the verdict is your score, a number.'
        return f'{start} a JSON object, {{"verdict": "pass"}} or {{"verdict": "fail"}}.'


def _median(scores: list[float]) -> float | None:
    """The median, which is on the side of the threshold that the majority is on."""
    if not scores:
        return None
    scores = sorted(scores)
    middle = len(scores) // 2
    return scores[middle] if len(scores) % 2 else (scores[middle - 1] + scores[middle]) / 2


def _probability(reading: Reading, tokens: list[tuple[str, float]] | None) -> float | None:
    """The probability of the tokens that say the verdict; None if they cannot be told.

    A score has none: that of one number is not that of being above the threshold.
    """
    if not tokens or reading.word is None:
        return None
    text = "".join(token for token, _ in tokens)
    start = reader.place_of(reading.word, text)
    if start is None:
        return None
    end, at, logprob = start + len(reading.word), 0, 0.0
    for token, value in tokens:
        if at < end and at + len(token) > start:
            logprob += value
        at += len(token)
    found = math.exp(min(logprob, 0.0))
    return found if found >= _SMALLEST else 0.0
