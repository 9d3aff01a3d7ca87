"""Writes at the end of the loop's turn: once each, in order, and none too late."""

import asyncio

from autoglm.core.turn import Turn


class Pen:
    def __init__(self, turn: Turn, paper: list[str], name: str) -> None:
        self._turn, self._paper, self._name = turn, paper, name
        self._unsent = ""

    def write(self, text: str) -> None:
        self._unsent += text
        if self._unsent == text:
            self._turn.add(self)

    def flush(self) -> None:
        self._paper.append(f"{self._name}:{self._unsent}")
        self._unsent = ""


async def test_what_a_turn_wrote_goes_out_at_its_end_together_and_in_order() -> None:
    turn, paper = Turn(), list[str]()
    a, b = Pen(turn, paper, "a"), Pen(turn, paper, "b")
    a.write("1")
    b.write("2")
    a.write("3")
    assert paper == []
    await asyncio.sleep(0)
    assert paper == ["a:13", "b:2"]
    b.write("4")
    await asyncio.sleep(0)
    assert paper == ["a:13", "b:2", "b:4"]


async def test_a_long_turn_does_not_hold_back_the_first_until_its_end() -> None:
    turn, paper = Turn(), list[str]()
    for number in range(100):
        Pen(turn, paper, str(number)).write("x")
    assert paper == [f"{number}:x" for number in range(64)]
    await asyncio.sleep(0)
    assert paper == [f"{number}:x" for number in range(100)]


async def test_a_flush_that_fails_holds_up_nobody() -> None:
    turn, paper = Turn(), list[str]()

    class Broken(Pen):
        def flush(self) -> None:
            raise RuntimeError("the handle is closed")

    Pen(turn, paper, "a").write("1")
    Broken(turn, paper, "b").write("2")
    Pen(turn, paper, "c").write("3")
    await asyncio.sleep(0)
    assert paper == ["a:1", "c:3"]


async def test_what_a_flush_writes_goes_out_a_turn_later() -> None:
    turn, paper = Turn(), list[str]()

    class Chatty(Pen):
        def flush(self) -> None:
            super().flush()
            if len(paper) < 3:
                self.write("again")

    Chatty(turn, paper, "c").write("first")
    for _ in range(4):
        await asyncio.sleep(0)
    assert paper == ["c:first", "c:again", "c:again"]
