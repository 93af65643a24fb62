"""A TCP proxy before Redis that makes every round trip longer, in a process of its own.

Each answer leaves as long after it came as was asked for, in order; answers on their way at once are delayed at once,
as a longer cable would do it.
"""

import argparse
import asyncio
import contextlib
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"


@contextmanager
def with_latency(url: str, ms: float) -> Iterator[str]:
    """`url` by a way that adds `ms` to each round trip; itself for 0."""
    if not ms:
        yield url
        return
    parts = urlsplit(url)
    command = [sys.executable, "-m", "scripts.bench._latency", parts.hostname or HOST, str(parts.port or 6379), str(ms)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            port = proxy.stdout.readline().strip() if proxy.stdout else ""
            if not port:
                raise SystemExit("the delay proxy did not start")
            account, at, _ = parts.netloc.rpartition("@")
            yield parts._replace(netloc=f"{account}{at}{HOST}:{port}").geturl()
        finally:
            proxy.kill()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, each piece `delay_s` after it came, until the source ends."""
    loop = asyncio.get_running_loop()

    def pass_on(piece: bytes) -> None:
        if not sink.is_closing():
            sink.write(piece)

    try:
        while piece := await source.read(1 << 16):
            if delay_s:
                loop.call_later(delay_s, pass_on, piece)  # timers of equal delay fire in the order they were set
            else:
                pass_on(piece)
    finally:
        loop.call_later(delay_s, sink.close)


async def _serve(host: str, port: int, ms: float) -> None:
    pairs: set[asyncio.Future[Any]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection(host, port)
        ways = (_copy(reader, redis_writer, 0), _copy(redis_reader, writer, ms / 1000))
        pair: asyncio.Future[Any] = asyncio.gather(*ways, return_exceptions=True)
        pairs.add(pair)
        pair.add_done_callback(pairs.discard)

    server = await asyncio.start_server(accept, HOST, 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The pipe on stdin ends with the bench, however that ends.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("ms", type=float)
    chosen = parser.parse_args()
    # epoll waits in whole milliseconds, rounded up; select is exact enough to add one.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_serve(chosen.host, chosen.port, chosen.ms))


if __name__ == "__main__":
    main()
