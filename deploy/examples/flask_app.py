"""A Flask application that registers itself: python flask_app.py PORT

For one behind gunicorn or uWSGI, with many processes on one port: discovery run --service hello.prod -- gunicorn ...
"""

import signal
import sys

from flask import Flask
from werkzeug.serving import make_server

from discovery.client.sync import Registration

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello from Flask\n"


def main(port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that `with` comes to its end
    server = make_server("0.0.0.0", port, app, threaded=True)  # noqa: S104  # it listens from here on
    with Registration("hello.prod", host="127.0.0.1", port=port, lease_ttl=15):
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
