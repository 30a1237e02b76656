"""An aiohttp application that registers itself: python aiohttp_app.py PORT

It listens before it is found, and is no longer found before it stops listening.
"""

import asyncio
import signal
import sys

from aiohttp import web

from discovery.client import Registration


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello from aiohttp\n")


async def main(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        # host: what others reach it at. Left out, it is the address that the node sees.
        async with Registration("hello.prod", host="127.0.0.1", port=port, lease_ttl=15) as registration:
            await stop.wait()
            await asyncio.sleep(await registration.leave())  # until no resolver can hold it any more
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
