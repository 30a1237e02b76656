"""Prints what becomes of a service, for as long as it runs: python watcher.py hello.prod"""

import asyncio
import sys
from contextlib import aclosing

from discovery.client import Client


async def main(service: str) -> None:
    async with Client() as client, aclosing(client.watch(service)) as events:
        async for event in events:
            if event.instance is None:  # synced: what was there has been told
                print(f"watching {service}", flush=True)
            elif event.type == "put":
                print(f"+ {event.instance.name} {event.instance.host}:{event.instance.port}", flush=True)
            else:
                print(f"- {event.instance.name} {event.reason or ''}".rstrip(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
