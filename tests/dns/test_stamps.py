"""Few stamps for an answer that was made from much."""

from __future__ import annotations

from discovery.dns import wire
from discovery.dns.source import Branch as AnyBranch
from discovery.dns.stamps import MOST, few
from discovery.dns.synthesis import synthesize
from discovery.tree import Branch
from tests.support.dns import APEX, World

SERVICES = 2 * MOST


def world() -> World:
    stored: dict[str, object] = {f"i{n}.web": {"host": f"h{n}.hosts.d.test"} for n in range(SERVICES)}
    stored |= {f"h{n}.hosts": {"host": f"10.0.0.{n}"} for n in range(SERVICES)}
    return World(stored)


def addresses(world: World) -> set[str]:
    return {each.address for rrset in world.ask("web", "A", tcp=True).answer for each in rrset}


def test_an_answer_made_from_very_many_names_has_few_stamps() -> None:
    made = world()
    answer = synthesize((*APEX, b"web"), wire.A, made.view, made.settings)
    assert len(answer.rotating) == SERVICES
    assert len(answer.stamps) <= MOST


def test_what_such_an_answer_was_made_from_makes_it_anew_when_it_changes() -> None:
    made = world()
    before = addresses(made)
    assert before == addresses(made) == {f"10.0.0.{n}" for n in range(SERVICES)}
    made.put("h7.hosts", {"host": "10.0.1.7"})
    assert addresses(made) == before - {"10.0.0.7"} | {"10.0.1.7"}
    made.delete("h8.hosts")
    assert addresses(made) == before - {"10.0.0.7", "10.0.0.8"} | {"10.0.1.7"}


def test_up_to_the_bound_each_branch_keeps_its_own_stamp() -> None:
    root = Branch(b"", None)
    noted: dict[AnyBranch, int] = {root.grow((b"a", b"%d" % n)): 0 for n in range(MOST)}
    assert few(noted) == tuple(noted.items())


def test_above_the_bound_the_deepest_branch_above_all_is_stamped_in_each_tree() -> None:
    one, other = Branch(b"", None), Branch(b"", None)
    noted: dict[AnyBranch, int] = {one.grow((b"a", b"b", b"%d" % n)): 0 for n in range(MOST)}
    noted |= {other.grow((b"x", b"%d" % n, b"y")): 0 for n in range(2)}
    deepest, elsewhere = one.grow((b"a", b"b")), other.grow((b"x",))
    deepest.version, elsewhere.version = 5, 6
    assert few(noted) == ((deepest, 5), (elsewhere, 6))
    noted[deepest] = 5  # itself above all the others
    assert few(noted) == ((deepest, 5), (elsewhere, 6))
