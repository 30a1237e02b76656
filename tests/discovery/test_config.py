"""Where settings come from, what is refused, and that each complaint says what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.config import Config, Loaded, load, parse_address
from discovery.config_rules import parse_server
from discovery.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def refused(*sets: str, environ: dict[str, str] | None = None, folder: Path, text: str | None = None) -> str:
    path = None
    if text is not None:
        path = Path("d.yaml")
        (folder / path).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, sets, cwd=folder)
    assert "\n" not in caught.value.detail
    assert caught.value.exit_code == 2
    return caught.value.detail


def from_file(folder: Path, text: str) -> Loaded:
    (folder / "d.yaml").write_text(text)
    return load(Path("d.yaml"), {}, cwd=folder)


class TestSources:
    def test_nothing_configured_is_all_defaults(self, folder: Path) -> None:
        loaded = load(None, {}, cwd=folder)
        assert loaded.config == Config()
        assert loaded.path is None
        assert set(loaded.origins.values()) == {"default"}

    def test_flags_win_over_environment_over_file_over_defaults(self, folder: Path) -> None:
        (folder / "discovery.yaml").write_text(
            "leases: {default_ttl: 11, max_ttl: 12}\ndns: {chaos: false}\n"
        )
        environ = {"DISCOVERY_LEASES__DEFAULT_TTL": "21", "DISCOVERY_LEASES__MAX_TTL": "22"}
        loaded = load(None, environ, ["leases.max_ttl=32"], cwd=folder)
        leases = loaded.config.leases
        assert (leases.min_ttl, leases.default_ttl, leases.max_ttl) == (1, 21, 32)
        assert loaded.config.dns.chaos is False
        assert loaded.path == Path("discovery.yaml")
        assert loaded.origins["leases.min_ttl"] == "default"
        assert loaded.origins["dns.chaos"] == "discovery.yaml:2"
        assert loaded.origins["leases.default_ttl"] == "$DISCOVERY_LEASES__DEFAULT_TTL"
        assert loaded.origins["leases.max_ttl"] == "--set leases.max_ttl"

    def test_config_flag_wins_over_variable_over_working_directory(self, folder: Path) -> None:
        for name, ttl in (("discovery.yaml", 1), ("variable.yaml", 2), ("flag.yaml", 3)):
            (folder / name).write_text(f"stale_after: {ttl}")
        environ = {"DISCOVERY_CONFIG": "variable.yaml"}
        assert load(None, {}, cwd=folder).config.stale_after == 1
        assert load(None, environ, cwd=folder).config.stale_after == 2
        assert load(Path("flag.yaml"), environ, cwd=folder).config.stale_after == 3

    def test_the_last_of_two_flags_wins(self, folder: Path) -> None:
        assert load(None, {}, ["stale_after=1", "stale_after=2"], cwd=folder).config.stale_after == 2

    def test_a_variable_or_flag_may_give_a_section(self, folder: Path) -> None:
        loaded = load(None, {"DISCOVERY_LOG": "{level: debug}"}, ["log={format: json}"], cwd=folder)
        assert (loaded.config.log.level, loaded.config.log.format) == ("debug", "json")

    def test_lists_are_replaced_whole(self, folder: Path) -> None:
        (folder / "discovery.yaml").write_text("zones: [{name: a.test, ttl: 9}, {name: b.test}]")
        zones = load(None, {}, ["zones=[{name: c.test}]"], cwd=folder).config.zones
        assert [(zone.name, zone.ttl) for zone in zones] == [("c.test.", 5)]

    def test_empty_files_and_sections_are_defaults(self, folder: Path) -> None:
        assert from_file(folder, "").config == Config()
        assert from_file(folder, "dns:\n  # listen: []\nlog:\n").config == Config()

    def test_client_and_kubernetes_variables_are_no_settings(self, folder: Path) -> None:
        environ = {
            "DISCOVERY_NODE": "http://127.0.0.1:8053",
            "DISCOVERY_DNS": "127.0.0.1:53",
            "DISCOVERY_TOKEN": "x",
            "DISCOVERY_SERVICE_HOST": "10.0.0.1",
            "DISCOVERY_PORT": "tcp://10.0.0.1:8053",
            "DISCOVERY_PORT_53_UDP_ADDR": "10.0.0.1",
            "DISCOVERY_DNS_SERVICE_PORT_HTTP": "8053",
            "OTHER": "x",
        }
        assert load(None, environ, cwd=folder).config == Config()


class TestUnknown:
    @pytest.mark.parametrize(
        ("sets", "complaint"),
        [
            ("dns.lisen=1", "--set dns.lisen: unknown setting; did you mean dns.listen?"),
            ("payload_size=1", "--set payload_size: unknown setting; did you mean dns.payload_size?"),
            ("log={levle: debug}", "--set log: log.levle: unknown setting; did you mean log.level?"),
            ("zones=[{nam: a}]", "--set zones: zones[0].nam: unknown setting; did you mean zones[0].name?"),
            ("node.zzz=1", "--set node.zzz: unknown setting; known here: name, address, stop_delay"),
            ("zones.name=a", "--set zones.name: zones is set as a whole: a list (at least one) of mappings"),
            ("dns.chaos", "--set dns.chaos: expected KEY=VALUE, such as dns.payload_size=1232"),
        ],
    )
    def test_flag(self, folder: Path, sets: str, complaint: str) -> None:
        assert refused(sets, folder=folder) == complaint

    def test_variable(self, folder: Path) -> None:
        complaint = refused(environ={"DISCOVERY_DNS__PAYLOAD": "1"}, folder=folder)
        assert (
            complaint
            == "$DISCOVERY_DNS__PAYLOAD: dns.payload: unknown setting; did you mean dns.payload_size?"
        )
        assert "zones, reverse_zones" in refused(environ={"DISCOVERY_FOO": "1"}, folder=folder)

    def test_file_names_the_line(self, folder: Path) -> None:
        complaint = refused(text="dns:\n  chaos: true\n  lisen: []\n", folder=folder)
        assert complaint == "d.yaml:3: dns.lisen: unknown setting; did you mean dns.listen?"


class TestTypes:
    @pytest.mark.parametrize(
        ("sets", "complaint"),
        [
            ("dns.payload_size=511", "--set dns.payload_size: expected a whole number from 512 to 4096; got 511"),
            ("dns.payload_size=true", "--set dns.payload_size: expected a whole number from 512 to 4096; got true"),
            ("dns.chaos=1", "--set dns.chaos: expected true or false; got 1"),
            ("dns.listen=127.0.0.1:53", "--set dns.listen: expected a list (at least one) of text; got '127.0.0.1:53'"),
            ("dns.listen=[]", "--set dns.listen: expected a list (at least one) of text; got []"),
            ("node.name=7", "--set node.name: expected text; got 7"),
            ("node.name=", "--set node.name: expected text; got nothing"),
            ("log.level=loud", "--set log.level: expected one of debug, info, warning, error; got 'loud'"),
            ("zones=[]", "--set zones: expected a list (at least one) of mappings; got []"),
            ("zones=[{ttl: 5}]", "--set zones: zones[0].name: missing; expected text"),
            ("zones=[{name: a, weight: 65536}]", "--set zones: zones[0].weight: expected a whole number from 0"),
            ("dns=[1]", "--set dns: expected a mapping with keys of listen, workers, payload_size"),
        ],
    )  # fmt: skip
    def test_wrong(self, folder: Path, sets: str, complaint: str) -> None:
        assert refused(sets, folder=folder).startswith(complaint)

    def test_file_names_the_line_of_a_list_element(self, folder: Path) -> None:
        complaint = refused(text="zones:\n  - name: a\n  - name: b\n    ttl: -1\n", folder=folder)
        assert complaint == "d.yaml:4: zones[1].ttl: expected a whole number from 0 to 2147483647; got -1"


class TestFile:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("dns:\n  chaos: true\n  chaos: false\n", "d.yaml:3: dns.chaos: the key is written twice (first on"),
            ("zones: [{name: a,\n name: b}]", "d.yaml:2: zones[0].name: the key is written twice"),
            ("dns:\n  listen: [a\nlog: {}\n", "d.yaml:3: not valid YAML: while parsing a flow sequence, expected"),
            ("a: 2001-99-99", "d.yaml: not valid YAML: month must be in 1..12"),
            ("---\n---\n", "d.yaml:2: not valid YAML: expected a single document"),
            ("dns: {[1]: 2}", "d.yaml:1: not valid YAML: while constructing a mapping, found unhashable key"),
            ("a: \x01", "d.yaml: not valid YAML: unacceptable character"),
            ("a: " + "[" * 500, "d.yaml: not valid YAML: nested too deeply"),
            ("zones: &a [*a]", "d.yaml:1: zones[0]: expected a mapping"),
            ("- 1", "d.yaml: expected a mapping with keys of zones"),
            ("1: 2", "d.yaml: 1: unknown setting"),
        ],
    )  # fmt: skip
    def test_broken(self, folder: Path, text: str, complaint: str) -> None:
        assert refused(text=text, folder=folder).startswith(complaint)

    def test_not_utf8(self, folder: Path) -> None:
        (folder / "discovery.yaml").write_bytes(b"a: \xff")
        assert refused(folder=folder) == "discovery.yaml: not UTF-8 at byte 3; save the file as UTF-8"

    def test_named_but_missing(self, folder: Path) -> None:
        missing = "none.yaml: the configuration file cannot be read: No such file or directory"
        assert refused(environ={"DISCOVERY_CONFIG": "none.yaml"}, folder=folder) == missing

    def test_found_but_unreadable_is_not_passed_over(self, folder: Path) -> None:
        (folder / "discovery.yaml").mkdir()
        unreadable = "discovery.yaml: the configuration file cannot be read: Is a directory"
        assert refused(folder=folder) == unreadable

    def test_yaml_errors_of_variables_and_flags_name_them(self, folder: Path) -> None:
        assert refused("dns.listen=[a", folder=folder).startswith("--set dns.listen: not valid YAML: ")
        complaint = refused(environ={"DISCOVERY_STALE_AFTER": "{a: 1, a: 2}"}, folder=folder)
        assert complaint == "$DISCOVERY_STALE_AFTER: a: the key is written twice; keep one"


class TestValues:
    @pytest.mark.parametrize(
        ("sets", "wanted"),
        [
            ("store.engine=foo", "one of embedded, etcd, managed-etcd"),
            ("dns.workers=false", "a whole number from 0 to 1024"),
            ("dns.workers=-1", "a whole number from 0 to 1024"),
        ],
    )
    def test_what_was_expected_is_told(self, folder: Path, sets: str, wanted: str) -> None:
        key, _, value = sets.partition("=")
        complaint = refused(sets, folder=folder)
        assert complaint.startswith(f"--set {key}: expected {wanted}; got ")
        assert value in complaint

    @pytest.mark.parametrize(
        "sets",
        ["dns.workers=0", "http.tokens=[]", "store.engine=embedded"],
    )
    def test_the_default_is_taken(self, folder: Path, sets: str) -> None:
        assert load(None, {}, [sets], cwd=folder).config == Config()


@pytest.mark.parametrize("entry", ["{a: sesame}", "[register sesame]", "[sesame\u00e9]"])
def test_a_wrong_secret_is_not_shown(folder: Path, entry: str) -> None:
    complaint = refused(f"http.tokens={entry}", folder=folder)
    assert complaint.startswith("--set http.tokens: ")
    assert "sesame" not in complaint


def test_https_needs_a_certificate(folder: Path) -> None:
    for name in ("key", "client_ca"):
        complaint = refused(f"http.tls.{name}=a.pem", folder=folder)
        assert complaint.startswith(f"--set http.tls.{name}: there is no TLS without a certificate")


def test_a_token_opens_the_way_beyond_loopback(folder: Path) -> None:
    beyond = "http.listen=['0.0.0.0:8053']"
    assert "set http.tokens" in refused(beyond, folder=folder)
    assert load(None, {}, [beyond, "http.tokens=[operate sesame]"], cwd=folder).config.http.tokens
    assert load(None, {}, [beyond, "http.open=true"], cwd=folder).config.http.open


class TestNames:
    def test_one_form(self, folder: Path) -> None:
        zone = "{name: Prod.Example, hostmaster: Admin.Example, local: A.Example.}"
        sets = [f"zones=[{zone}]", "reverse_zones=[10.0.0.0/8, 2.0.192.IN-ADDR.ARPA, 2001:DB8::/32]"]
        loaded = load(None, {}, sets, cwd=folder).config
        zone_config = loaded.zones[0]
        assert (zone_config.name, zone_config.hostmaster, zone_config.local) == (
            "prod.example.",
            "admin.example.",
            "a.example.",
        )
        assert loaded.reverse_zones == ("10.0.0.0/8", "2.0.192.in-addr.arpa.", "2001:db8::/32")

    @pytest.mark.parametrize(
        ("sets", "complaint"),
        [
            ("zones=[{name: .}]", "zones[0].name: expected a domain name below the root; got '.'"),
            ("zones=[{name: ''}]", "zones[0].name: expected a domain name below the root; got ''"),
            ("zones=[{name: a b}]", "zones[0].name: 'a b': 'a b' is not a label"),
            ("zones=[{name: a..b}]", "zones[0].name: 'a..b': '' is not a label"),
            (f"zones=[{{name: {'a' * 64}}}]", "zones[0].name: 'aaaa"),
            (f"zones=[{{name: {'abcdefg.' * 32}}}]", "is longer than a domain name can be"),
            ("zones=[{name: A.test}, {name: a.test.}]", "--set zones: a.test. is listed twice; keep one"),
            ("zones=[{name: a, hostmaster: me@example.org}]", "zones[0].hostmaster: "),
            ("reverse_zones=[10.0.0.1/8]", "--set reverse_zones: 10.0.0.1/8 has host bits set"),
            ("reverse_zones=[example.org]", "expected a network such as 10.0.0.0/8"),
            ("reverse_zones=[256.in-addr.arpa]", "expected a network such as 10.0.0.0/8"),
            ("reverse_zones=[10.0.0.0/8, 10.0.0.0/8]", "10.0.0.0/8 is listed twice"),
            ("store.prefix=skydns", "--set store.prefix: expected parts that each follow a slash"),
            ("store.prefix=/skydns/", "--set store.prefix: expected parts"),
            ("store.prefix=/discovery", "the node's own keys are below /discovery, secrets among them"),
            ("store.prefix=/discovery/dns", "the node's own keys are below /discovery"),
            ("node.name=a.b", "--set node.name: 'a.b' is not a label"),
            ("node.address=here", "--set node.address: expected an IP address; got 'here'"),
        ],
    )
    def test_refused(self, folder: Path, sets: str, complaint: str) -> None:
        assert complaint in refused(sets, folder=folder)


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("127.0.0.1:1053", ("127.0.0.1", 1053)),
            ("0.0.0.0:0", ("0.0.0.0", 0)),
            ("[::1]:53", ("::1", 53)),
            ("[2001:DB8:0::1]:65535", ("2001:db8::1", 65535)),
            ("localhost:53", ("localhost", 53)),
        ],
    )
    def test_parsed(self, text: str, address: tuple[str, int]) -> None:
        assert parse_address(text) == address

    @pytest.mark.parametrize(
        "text",
        ["", "53", ":53", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:+1", "::1:53", "[::1]", "[::1:53",
         "[127.0.0.1]:53", "1.2.3:53", "256.0.0.1:53", "a b:53", "127.0.0.1:٣"],
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"expected HOST:PORT or \[IPV6\]:PORT"):
            parse_address(text)

    @pytest.mark.parametrize(
        ("listen", "complaint"),
        [
            ("['0.0.0.0:53', '127.0.0.1:53']", "127.0.0.1:53 is within 0.0.0.0:53; leave one of them out"),
            ("['[::1]:53', '[::]:53']", "[::1]:53 is within [::]:53; leave one of them out"),
            ("['127.0.0.1:53', '127.0.0.1:53']", "127.0.0.1:53 is within 127.0.0.1:53"),
        ],
    )
    def test_addresses_that_take_each_other_in_are_told(
        self, folder: Path, listen: str, complaint: str
    ) -> None:
        assert f"dns.listen: {complaint}" in refused(f"dns.listen={listen}", folder=folder)

    def test_addresses_that_do_not_are_not(self, folder: Path) -> None:
        apart = ["0.0.0.0:53", "[::]:53", "127.0.0.1:1053", "127.0.0.1:0", "127.0.0.1:0"]
        assert load(None, {}, [f"dns.listen={apart}"], cwd=folder).config.dns.listen == tuple(apart)

    @pytest.mark.parametrize("key", ["dns.listen", "http.listen"])
    def test_listen_addresses_are_checked(self, folder: Path, key: str) -> None:
        assert refused(f'{key}=["nowhere"]', folder=folder).startswith(f"--set {key}: expected HOST:PORT")

    @pytest.mark.parametrize("address", ["0.0.0.0:8053", "[::]:8053", "192.0.2.1:8053", "example.org:80"])
    def test_http_beyond_loopback_is_refused_unless_open(self, folder: Path, address: str) -> None:
        listen = f'http.listen=["127.0.0.1:1", "{address}"]'
        assert f"{address} is not loopback" in refused(listen, folder=folder)
        load(None, {}, [listen, "http.open=true"], cwd=folder)

    def test_http_on_loopback_is_free(self, folder: Path) -> None:
        load(None, {}, ['http.listen=["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "localhost:0"]'], cwd=folder)


@pytest.mark.parametrize(
    "sets",
    [["leases.min_ttl=31"], ["leases.max_ttl=29"], ["leases.default_ttl=10", "leases.min_ttl=11"]],
)
def test_lease_ttls_are_in_order(folder: Path, sets: list[str]) -> None:
    assert "expected min_ttl <= default_ttl <= max_ttl; got" in refused(*sets, folder=folder)


def test_lease_ttls_may_be_equal(folder: Path) -> None:
    load(None, {}, ["leases={min_ttl: 5, default_ttl: 5, max_ttl: 5}"], cwd=folder)


class TestForward:
    @pytest.mark.parametrize(
        ("sets", "complaint"),
        [
            ("forward.upstreams=[dns.example]", "HOST:PORT"),
            ("forward.upstreams=['dns.example:53']", "the address of a name server"),
            ("forward.upstreams=['192.0.2.1:0']", "a port from 1 to 65535"),
            ("forward.zones={example.com.: []}", "has no server"),
            ("forward.zones={'': ['192.0.2.1']}", "below the root"),
            ("forward.allow=[everybody]", "loopback or private"),
            ("dns.allow=[everybody]", "dns.allow: expected a network"),
            ("dns.deny=[10.0.0.1/8]", "dns.deny: expected a network"),
            ("dns.rrl={responses: 5}", "dns.rrl.responses: unknown setting"),
            ("dns.rrl.answers=-1", "a whole number from 0"),
        ],
    )
    def test_servers_and_networks_are_checked(self, folder: Path, sets: str, complaint: str) -> None:
        assert complaint in refused(sets, folder=folder)

    def test_servers_take_an_address_with_or_without_a_port(self) -> None:
        texts = ("192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353")
        assert [parse_server(text) for text in texts] == [
            ("192.0.2.1", 53),
            ("192.0.2.1", 5353),
            ("2001:db8::1", 53),
            ("2001:db8::1", 5353),
        ]
