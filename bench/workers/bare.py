"""The calls alone: so many at a time, over open connections, and nothing is done with the replies.

What this reaches is what a machine that others use allows: python -m bench.workers.bare URL ...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit

from bench.workers.child import Child, start


def spawn(base_url: str, *, concurrency: int, calls: int) -> Child:
    """Start it; it tells seconds."""
    return start(
        "bench.workers.bare", base_url, "--concurrency", str(concurrency), "--calls", str(calls)
    )


async def _call(base_url: str, concurrency: int, calls: int) -> float:
    url = urlsplit(base_url)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 2000}]})
    request = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    left = iter(range(calls))

    async def one() -> None:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        for _ in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            json.loads(await reader.readexactly(int(length)))
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(concurrency)))
    return time.perf_counter() - begun


def main() -> None:
    """Call, and print the seconds as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers.bare", description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    seconds = asyncio.run(_call(given.base_url, given.concurrency, given.calls))
    print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
