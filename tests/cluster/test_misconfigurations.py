"""deploy/misconfigurations.md: what is wrong, and the one line that `discovery serve` ends with, status 2.

Every row of the page's tables is a case here, and each is made on this machine: its ports, folders and addresses are
written as the page writes them.
"""

from __future__ import annotations

import datetime
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest
import yaml

from discovery.kv.certificate_files import renew
from discovery.kv.certificates import NODE_LIFE
from discovery.kv.member_files import MemberFiles
from discovery.kv.member_plan import Identity
from tests.support.etcd import free_ports
from tests.support.node import ROOT, run_discovery, running_node, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PAGE = (ROOT / "deploy" / "misconfigurations.md").read_text()
ROWS = {what: line for what, _, line in re.findall(r"^\| (.+?) \| (`+) ?(.+?) ?\2 \|$", PAGE, re.M)}

Case = Callable[["Place"], None]
CASES: dict[str, Case] = {}


def case(what: str) -> Callable[[Case], Case]:
    def keep(function: Case) -> Case:
        CASES[what] = function
        return function

    return keep


class Place:
    """A node's configuration in a folder of its own: member n1 of three, which a case spoils."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.stack = stack
        client, peer, *others = free_ports(4)
        self.member: dict[str, object] = {
            "client": f"http://127.0.0.1:{client}",
            "peer": f"http://127.0.0.1:{peer}",
        }
        self.urls = {
            f"n{number}": f"http://127.0.0.1:{port}" for number, port in enumerate((peer, *others), 1)
        }
        self.names = {
            f"127.0.0.1:{client}": "10.0.0.1:2379",
            **{
                f"127.0.0.1:{url.rpartition(':')[2]}": f"10.0.0.{name[1]}:2380"
                for name, url in self.urls.items()
            },
            str(self.store): "/var/lib/discovery",
            str(folder / "certs"): "/etc/discovery",
            "127.0.0.1": "10.0.0.1",
        }

    def as_listed(self) -> None:
        self.member["initial_cluster"] = dict(self.urls)

    def files(self) -> MemberFiles:
        return MemberFiles(self.store)

    def holds(self, *, data: bool = True, cluster_id: str = "", **changed: object) -> None:
        """A member's folder, begun as this one is listed."""
        identity = Identity("n1", self.urls["n1"], dict(self.urls), "t", "new", cluster_id)
        files = self.files()
        files.write_identity(msgspec.structs.replace(identity, **changed))
        if data:
            (files.data / "member").mkdir()
        files.close()

    def peer(self, name: str, members: object = None, **headers: str) -> None:
        """A server at that member's peer URL, which says what a member would say. `members` None: it is no member."""
        self.stack.enter_context(_speaking(self.urls[name], members, headers))

    def members(self, names: Mapping[str, str], *, started: bool = False) -> list[dict[str, object]]:
        """As /members lists them: names and peer URLs."""
        return [
            {"id": number, "name": name, "peerURLs": [url], "clientURLs": ["http://x:1"] * started}
            for number, (name, url) in enumerate(names.items())
        ]

    def with_tls(self, hosts: str = "127.0.0.1", *, age: datetime.timedelta = datetime.timedelta()) -> Path:
        folder = self.folder / "certs"
        renew(folder, {"n1": [hosts], "n2": [hosts]}, datetime.datetime.now(datetime.UTC) - age)
        for name, file in (("cert", "n1.pem"), ("key", "n1-key.pem"), ("ca", "ca.pem")):
            self.member[name] = str(folder / file)
        for name in ("client", "peer"):
            self.member[name] = str(self.member[name]).replace("http:", "https:")
        return folder

    def serve(self) -> str:
        """The line that it is refused with, in the page's words."""
        config = {
            "dns": {"listen": ["127.0.0.1:0"]},
            "http": {"listen": ["127.0.0.1:0"]},
            "node": {"name": "n1"},
            "store": {"engine": "managed-etcd", "path": str(self.store), "member": self.member},
        }
        file = self.folder / "discovery.yaml"
        file.write_text(yaml.safe_dump(config))
        done = run_discovery("serve", "--config", str(file), timeout=60)
        assert "Traceback" not in done.stderr
        *logged, line = done.stderr.splitlines()
        assert done.returncode == 2, done.stderr
        assert all(re.match(r"\d{4}-\d\d-\d\dT", each) for each in logged), done.stderr
        line = re.sub(r"^discovery: (\S*discovery\.yaml:\d+: )?", "", line)
        for here, there in self.names.items():
            line = line.replace(here, there)
        return re.sub(r"pid \d+", "pid 4711", line)


@contextmanager
def _speaking(url: str, members: object, headers: dict[str, str]) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(404 if members is None else 200)
            for name, value in ({"Date": formatdate(time.time(), usegmt=True)} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(json.dumps(members).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(url.rpartition(":")[2])), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ---------------------------------------------------------------- settings


@case("a URL without scheme or port")
def _(place: Place) -> None:
    place.member["client"] = "10.0.0.1"


@case("an address for all interfaces to listen on")
def _(place: Place) -> None:
    place.member["peer"] = "http://0.0.0.0:2380"


@case("one port for clients and peers")
def _(place: Place) -> None:
    place.member["peer"] = place.member["client"]


@case("a certificate without its key or CA")
def _(place: Place) -> None:
    place.member["cert"] = "/etc/discovery/n1.pem"


@case("http with certificates, or https without")
def _(place: Place) -> None:
    place.member["client"] = "https://10.0.0.1:2379"


@case("`join` beside `initial_cluster`")
def _(place: Place) -> None:
    place.as_listed()
    place.member["join"] = "http://10.0.0.2:2379"


@case("a name that the list has not")
def _(place: Place) -> None:
    place.as_listed()
    place.member["name"] = "n4"


@case("a peer URL other than the list's")
def _(place: Place) -> None:
    place.as_listed()
    place.member["peer"] = "http://10.0.0.1:3380"


@case("one peer URL listed twice")
def _(place: Place) -> None:
    place.as_listed()
    place.member["initial_cluster"] = place.urls | {"n3": place.urls["n2"]}


@case("loopback, while others are on other machines")
def _(place: Place) -> None:
    place.names = {}
    place.member |= {"client": "http://127.0.0.1:2379", "join": "http://10.0.0.2:2379"}


# ---------------------------------------------------------------- this machine


@case("no etcd installed")
def _(place: Place) -> None:
    place.member["binary"] = "/usr/local/bin/etcd"


def _program(place: Place, said: str) -> None:
    file = place.folder / "etcd"
    file.write_text(f"#!/bin/sh\necho '{said}'\n")
    file.chmod(0o755)
    place.member["binary"] = str(file)
    place.names[str(file)] = "/usr/local/bin/etcd"


@case("an etcd that damages data")
def _(place: Place) -> None:
    _program(place, "etcd Version: 3.5.1")


@case("an etcd that is too old")
def _(place: Place) -> None:
    _program(place, "etcd Version: 3.3.27")


@case("another program")
def _(place: Place) -> None:
    _program(place, "hello")


@case("a port that is taken")
def _(place: Place) -> None:
    taken = place.stack.enter_context(socket.socket())
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", int(str(place.member["client"]).rpartition(":")[2])))
    taken.listen()


@case("an address of another machine")
def _(place: Place) -> None:
    place.member["client"] = "http://192.0.2.1:2379"


@case("two nodes on one folder")
def _(place: Place) -> None:
    place.stack.callback(place.files().close)


@case("a folder that can't be made")
def _(place: Place) -> None:
    place.store.write_text("a file")


# ---------------------------------------------------------------- data


@case("an etcd's data from elsewhere")
def _(place: Place) -> None:
    (place.store / "etcd" / "data" / "member").mkdir(parents=True)


@case("another member's folder")
def _(place: Place) -> None:
    place.as_listed()
    place.holds(name="n2")


@case("another list than the folder's")
def _(place: Place) -> None:
    place.as_listed()
    place.holds(initial_cluster={name: url for name, url in place.urls.items() if name != "n3"})


@case("another peer URL than the folder's")
def _(place: Place) -> None:
    place.holds(peer="http://10.0.0.1:3380")


@case("a folder that lost its data, of a member alone")
def _(place: Place) -> None:
    place.holds(data=False, cluster_id="27cf9f5953033e03", initial_cluster={"n1": place.urls["n1"]})


@case("a folder that lost its data, of one of many")
def _(place: Place) -> None:
    place.as_listed()
    place.holds(data=False, cluster_id="27cf9f5953033e03")


@case("a member that the cluster has removed")
def _(place: Place) -> None:
    place.holds()
    files = place.files()
    files.mark_removed()
    files.close()


# ---------------------------------------------------------------- the others


@case("a folder that is gone, while the others know its member")
def _(place: Place) -> None:
    place.as_listed()
    place.peer("n2", place.members(place.urls, started=True), X_Etcd_Cluster_Id="27cf9f5953033e03")


@case("a peer of another cluster, at the beginning")
def _(place: Place) -> None:
    place.as_listed()
    place.peer("n2", place.members({"x": "http://10.0.0.9:2380"}), X_Etcd_Cluster_Id="27cf9f5953033e03")


@case("a peer with another list")
def _(place: Place) -> None:
    place.as_listed()
    two = {name: place.urls[name] for name in ("n1", "n2")}
    place.peer("n2", place.members(two), X_Etcd_Cluster_Id="27cf9f5953033e03")


@case("peers of another cluster than the data")
def _(place: Place) -> None:
    place.as_listed()
    place.holds(cluster_id="aaaa")
    place.peer("n2", place.members(place.urls), X_Etcd_Cluster_Id="bbbb")


@case("a peer URL at which something else answers")
def _(place: Place) -> None:
    place.as_listed()
    place.peer("n2")


@case("a clock far off")
def _(place: Place) -> None:
    place.as_listed()
    place.holds(cluster_id="aaaa")
    date = formatdate(time.time() + 3600, usegmt=True)
    place.peer("n2", place.members(place.urls), X_Etcd_Cluster_Id="aaaa", Date=date)
    place.names |= {f"clock is {seconds} s": "clock is 3600 s" for seconds in range(3550, 3602)}


@case("nobody to join")
def _(place: Place) -> None:
    place.names[place.urls["n2"][7:]] = "10.0.0.2:2379"
    place.member["join"] = place.urls["n2"]


# ---------------------------------------------------------------- certificates


@case("a certificate that is not there")
def _(place: Place) -> None:
    (place.with_tls() / "n1.pem").unlink()


@case("a key of another node")
def _(place: Place) -> None:
    place.member["key"] = str(place.with_tls() / "n2-key.pem")


@case("a certificate that has ended")
def _(place: Place) -> None:
    place.with_tls(age=NODE_LIFE)
    place.names[f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"] = "2027-11-25"


@case("a certificate of another address")
def _(place: Place) -> None:
    folder = place.with_tls()
    port = free_ports(1, "127.0.0.2")[0]
    place.member |= {"client": f"https://127.0.0.2:{port}"}
    place.names = {str(folder): "/etc/discovery", "127.0.0.2": "10.0.0.7"}


@case("a certificate of another CA")
def _(place: Place) -> None:
    place.with_tls()
    renew(place.folder / "old", {"n1": ["127.0.0.1"]}, datetime.datetime.now(datetime.UTC))
    (place.folder / "certs" / "ca.pem").write_bytes((place.folder / "old" / "ca.pem").read_bytes())


@pytest.mark.parametrize("what", CASES)
def test_a_misconfiguration_is_refused_with_its_line(what: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, stack)
        CASES[what](place)
        assert place.serve() == ROWS.get(what)


def test_every_row_of_the_page_is_a_case() -> None:
    assert list(ROWS) == list(CASES)


def test_a_peer_that_can_t_be_reached_is_waited_for_and_named(tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, stack)
        log = tmp_path / "n1.log"
        settings = ["store.engine=managed-etcd", "node.name=n1"]
        settings += [f"store.member.{name}={url}" for name, url in place.member.items()]
        settings += [f"store.member.initial_cluster={json.dumps(place.urls)}"]
        with running_node(place.store, settings, log=log) as node:
            wait_for(lambda: "does not serve" in log.read_text(), 60, "it says so")
            (line,) = (each for each in log.read_text().splitlines() if "does not serve" in each)
            for here, there in place.names.items():
                line = line.replace(here, there)
            assert f"`{line.partition(': ')[2]}`" in PAGE
            assert "it waits for" in node.call("GET", "/readyz?writes")[1]["detail"]
            errors = node.call("GET", "/v1/cluster")[1]["store"]["errors"]
            assert [each for each in errors if "it waits for" in each]
