"""The peer of `webhooks`: post a body some times with httpx, so many calls at once, and do nothing else.

python -m scripts.bench._bare_httpx COUNT CONCURRENCY URL... < body
"""

import asyncio
import sys

import httpx
import uvloop


async def post(count: int, concurrency: int, urls: list[str], data: bytes) -> None:
    """One client for all, as its documents advise."""
    numbers = iter(range(count))
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=15.0) as client:

        async def caller() -> None:
            for number in numbers:
                body = b'{"id":"evt_%d","event":"payment.completed","timestamp":"-","data":%b}' % (number, data)
                headers = {"content-type": "application/json", "webhook-id": f"evt_{number}"}
                answer = await client.post(urls[number % len(urls)], content=body, headers=headers)
                answer.raise_for_status()

        await asyncio.gather(*(caller() for _ in range(concurrency)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(post(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:], sys.stdin.buffer.read()))
