"""Run the endpoint: `python -m replay --port 0 --latency 0.2 --answer keyword:delve`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from replay import recorded
from replay.faults import FAULTS, PASSING, Faulty
from replay.reply import Responder
from replay.responders import by_keyword, by_marker, round_robin, text, verdict
from replay.server import Script, serve
from replay.vectors import vectors

_ANSWERS = """\
answers:
  passed | failed     always this verdict
  keyword:WORD        failed if a user message has the word, passed otherwise
  text:TEXT           always this text
  texts:SET           raw texts of real judges in turn (SET: {sets})
  marker:SET          the text named by [[replay:SET:ROW]] in a user message
  bodies              recorded bodies of real providers in turn
  fault:NAME          a fault ({faults})
"""


def responder(answer: str, data: Path) -> Responder:
    """The responder that a word on the command line stands for."""
    kind, _, value = answer.partition(":")
    match kind:
        case "passed" | "failed":
            return verdict(kind == "passed")
        case "keyword":
            return by_keyword(value)
        case "text":
            return text(value)
        case "texts":
            return round_robin(recorded.texts(value, data).values())
        case "marker":
            return by_marker(recorded.texts(value, data))
        case "bodies":
            return round_robin(recorded.bodies(data))
        case "fault":
            return FAULTS[value]
    raise ValueError(answer)


async def main() -> None:
    """Serve until a signal comes, or the parent is gone."""
    epilog = _ANSWERS.format(sets=", ".join(recorded.TEXT_SETS), faults=", ".join(FAULTS))
    parser = argparse.ArgumentParser(
        prog="python -m replay", description=__doc__, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--latency", type=float, default=0, help="seconds before each answer")
    parser.add_argument("--key", help="answer 401 to requests without this key")
    parser.add_argument("--data", type=Path, default=recorded.DATA, help="folder of recorded data")
    parser.add_argument("--answer", default="passed", help="see below (default: passed)")
    parser.add_argument("--dimensions", type=int, default=384, help="length of vectors")
    parser.add_argument("--faulty", type=float, default=0, help="share of answers that are faults")
    parser.add_argument("--faults", default=",".join(PASSING), help="which faults, comma separated")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of faults")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input does")
    given = parser.parse_args()

    try:
        answer = responder(given.answer, given.data)
        names = given.faults.split(",")
        answer = Faulty(answer, given.faulty, seed=given.seed, faults=names)
    except (KeyError, ValueError) as exc:
        parser.error(f"nothing is called {exc}")
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if given.with_parent:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    ready: asyncio.Future[int] = loop.create_future()
    ready.add_done_callback(
        lambda port: print(
            json.dumps({"base_url": f"http://{given.host}:{port.result()}/v1"}), flush=True
        )
    )
    embedder = vectors(given.dimensions)
    script = Script(answer, given.latency, given.key, keep=False, embedder=embedder)
    await serve(script, given.host, given.port, ready, stop)


if __name__ == "__main__":
    asyncio.run(main())
