"""What stands before a responder: refusals and rates, outside the caches, and nothing at all when they are off."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import dns.edns
import dns.flags
import dns.message
import dns.rcode

from discovery.dns.admission import NO_LIMITS, Admission, Answering, Limits
from discovery.dns.cookies import Secret
from discovery.dns.rrl import Rates
from tests.support.clock import FakeClock
from tests.support.dns import World, query

WEB: dict[str, object] = {"1.web": {"host": "10.0.0.1"}}
INSIDE, OUTSIDE = (socket.inet_aton(host) for host in ("192.0.2.1", "198.51.100.1"))
ONE_NETWORK = Limits(allow=(ip_network("192.0.2.0/24"),))


def admitted(world: World, limits: Limits, *, udp: bool = True, clock: FakeClock | None = None) -> Admission:
    responder = world.udp if udp else world.tcp
    return Admission(responder, limits, world.cookies, world.counters, clock or FakeClock(), udp=udp)


def asked(answering: Answering, client: bytes, *options: dns.edns.Option, name: str = "web") -> bytes | None:
    message = query(name, "A")
    message.use_edns(0, 0, 1232, options=list(options))
    answer = answering.respond(message.to_wire(), client)
    assert answer is None or isinstance(answer, bytes)
    return answer


def read(answer: bytes | None) -> dns.message.Message:
    assert answer is not None
    return dns.message.from_wire(answer)


def test_without_limits_the_responder_is_asked_itself() -> None:
    world = World(WEB)
    for udp in (True, False):
        responder = world.udp if udp else world.tcp
        admission = admitted(world, NO_LIMITS, udp=udp)
        assert (admission.respond, admission.respond_all) == (responder.respond, responder.respond_all)
    assert admitted(world, Limits(rates=Rates(1, 1, 1)), udp=False).respond == world.tcp.respond


def test_limits_change_from_one_question_to_the_next() -> None:
    world = World(WEB)
    for udp in (True, False):
        admission = admitted(world, NO_LIMITS, udp=udp)
        assert read(asked(admission, OUTSIDE)).rcode() == dns.rcode.NOERROR
        admission.limit(ONE_NETWORK)
        assert read(asked(admission, OUTSIDE)).rcode() == dns.rcode.REFUSED
        assert read(asked(admission, INSIDE)).rcode() == dns.rcode.NOERROR
        admission.limit(Limits(deny=ONE_NETWORK.allow))
        assert read(asked(admission, OUTSIDE)).rcode() == dns.rcode.NOERROR
        assert read(asked(admission, INSIDE)).rcode() == dns.rcode.REFUSED
        admission.limit(NO_LIMITS)
        assert read(asked(admission, INSIDE)).rcode() == dns.rcode.NOERROR


def test_a_rate_that_stays_as_it_was_goes_on_counting() -> None:
    world = World(WEB)
    admission = admitted(world, Limits(rates=Rates(answers=1)))
    assert read(asked(admission, INSIDE)).answer
    admission.limit(Limits(rates=Rates(answers=1)))
    assert asked(admission, INSIDE) is None
    admission.limit(Limits(rates=Rates(answers=5)))
    assert read(asked(admission, INSIDE)).answer


def test_a_client_that_may_not_ask_is_refused_with_the_reason_over_udp_and_tcp() -> None:
    world = World(WEB)
    for udp in (True, False):
        answering = admitted(world, ONE_NETWORK, udp=udp)
        assert read(asked(answering, INSIDE)).answer
        response = read(asked(answering, OUTSIDE))
        assert (response.rcode(), response.answer, response.flags & dns.flags.AA) == (5, [], 0)
        assert response.options == (dns.edns.EDEOption(dns.edns.EDECode.PROHIBITED),)
        assert response.question == query("web", "A").question
    assert world.counters.not_permitted == 2


def test_a_cached_answer_is_no_way_around_it() -> None:
    world = World(WEB)
    answering = admitted(world, ONE_NETWORK)
    for _ in range(4):
        asked(answering, INSIDE)
        assert read(asked(answering, OUTSIDE)).rcode() == 5
    assert world.counters.hits_raw == 2


def test_what_is_no_query_is_not_answered_to_them_either_and_the_malformed_is_told() -> None:
    answering = admitted(World(WEB), ONE_NETWORK)
    assert answering.respond(b"\0\1\x80\0" + bytes(8), OUTSIDE) is None
    assert answering.respond(b"short", OUTSIDE) is None
    assert read(answering.respond(query("web", "A").to_wire() + b"x", OUTSIDE)).rcode() == 1  # type: ignore[arg-type]


def test_over_its_rate_a_network_gets_cut_answers_with_which_it_can_come_back_over_tcp() -> None:
    world = World(WEB)
    clock = FakeClock()
    answering = admitted(world, Limits(rates=Rates(answers=2)), clock=clock)
    answers = [asked(answering, INSIDE) for _ in range(6)]
    assert [answer is None for answer in answers] == [False, False, True, False, True, False]
    for cut in (answers[3], answers[5]):
        response = read(cut)
        assert response.flags & dns.flags.TC
        assert (response.rcode(), response.answer, response.edns) == (0, [], 0)
        assert query("web", "A").is_response(response)
    assert read(asked(answering, OUTSIDE)).answer
    assert read(asked(answering, INSIDE, name="x")).rcode() == 3
    assert (world.counters.slipped, world.counters.rate_limited) == (2, 2)
    clock.advance(1)
    assert read(asked(answering, INSIDE)).answer


def test_a_client_with_a_cookie_of_ours_is_not_limited() -> None:
    world = World(WEB)
    world.cookies.use([Secret(b"k" * 16, 0)])
    answering = admitted(world, Limits(rates=Rates(answers=1)))
    fresh = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    (given,) = read(asked(answering, INSIDE, fresh)).options
    for _ in range(4):
        assert read(asked(answering, INSIDE, given)).answer
        assert not (limited := asked(answering, INSIDE, fresh)) or not read(limited).answer


def test_refusals_are_limited_too() -> None:
    limits = Limits(allow=(ip_network("192.0.2.0/24"),), rates=Rates(errors=1))
    answering = admitted(World(WEB), limits)
    assert [asked(answering, OUTSIDE) is None for _ in range(3)] == [False, True, False]
