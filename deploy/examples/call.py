"""A script without an event loop that finds a service and calls it: python call.py

DISCOVERY_DNS=127.0.0.1:1053 asks that DNS server; without it the node is asked over HTTP.
"""

import sys
from http.client import HTTPConnection, HTTPException

from discovery.client.sync import Client


def main() -> None:
    with Client() as client:
        for endpoint in client.resolve("hello.prod"):  # in the order in which to try them
            connection = HTTPConnection(endpoint.host, endpoint.port, timeout=2)
            try:
                connection.request("GET", "/")
                print(connection.getresponse().read().decode(), end="")
                return
            except (OSError, HTTPException) as error:
                print(f"{endpoint.host} port {endpoint.port}: {error}", file=sys.stderr)
            finally:
                connection.close()
    sys.exit("no instance of hello.prod answers")


if __name__ == "__main__":
    main()
