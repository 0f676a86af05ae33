"""Slots are shared between tenants first, and between the jobs of a tenant by age."""

from search.workers.seat import Seat
from search.workers.shares import Shares


def seats(free: list[int], *who: tuple[str, str]) -> list[Seat]:
    shares = Shares()
    return [
        Seat(shares, job, tenant=tenant, position=position, free=lambda: free[0])
        for position, (tenant, job) in enumerate(who)
    ]


def test_the_tenant_with_the_fewest_slots_comes_first() -> None:
    free = [1]
    many, one = seats(free, ("a", "many"), ("b", "one"))
    assert many.may_take()
    many.take()
    free[0] = 0
    assert not one.may_take()
    free[0] = 1
    assert not many.may_take()
    assert one.may_take()


def test_of_one_tenant_the_oldest_job_comes_first_and_others_use_what_it_leaves() -> None:
    free = [1]
    old, new = seats(free, ("a", "old"), ("a", "new"))
    assert old.may_take()
    assert not new.may_take()
    old.settle()  # it was offered a slot and had nothing to start
    assert new.may_take()


def test_a_job_that_does_not_ask_holds_nobody_up() -> None:
    free = [1]
    first, second = seats(free, ("a", "first"), ("b", "second"))
    assert first.may_take()
    first.take()
    first.give_back()
    first.settle()
    first.settle()
    assert second.may_take()


def test_two_free_slots_go_to_two_tenants() -> None:
    free = [2]
    a, b = seats(free, ("a", "a"), ("b", "b"))
    assert a.may_take()
    assert b.may_take()
    a.take()
    free[0] = 1
    assert b.may_take()
    assert not a.may_take()


def test_whoever_leaves_is_forgotten() -> None:
    free = [1]
    a, b = seats(free, ("a", "a"), ("b", "b"))
    assert a.may_take()
    a.leave()
    assert b.may_take()
    a.give_back()


def test_f62_one_job_against_many_waits_no_longer_than_one_slot_is_busy() -> None:
    """Nine jobs of one tenant and one of another on two slots, every piece of work one round long."""
    free = [2]
    shares = Shares()
    room = lambda: free[0]  # noqa: E731
    big = [Seat(shares, f"a{k}", tenant="a", position=k, free=room) for k in range(9)]
    small = Seat(shares, "b", tenant="b", position=99, free=room)
    waits = 0
    for _ in range(20):
        started: list[Seat] = []
        for seat in (*big, small):
            if seat.may_take():
                seat.take()
                started.append(seat)
                free[0] -= 1
            seat.settle()
        waits = 0 if small in started else waits + 1
        assert waits <= 1
        for seat in started:
            seat.give_back()
            free[0] += 1
