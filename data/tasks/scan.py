from dataclasses import dataclass
from functools import cache

import numpy as np

from .base import Task

ACTIONS = {"w": "W", "l": "K", "r": "N", "j": "J", "t": ""}  # walk, look, run, jump; turn is its direction alone
SIDES = {"<": "L", ">": "R"}
TIMES = {"": 1, "2": 2, "3": 3}


@dataclass(frozen=True)
class Scan(Task):
    """Commands are translated to actions; `size` is the number of actions (SCAN, 1711.00350, one letter per word).

        walk, look, run, jump        w l r j      WALK LOOK RUN JUMP       W K N J
        turn left, right             t< t>        LTURN RTURN              L R
        jump left                    j<           turn, then jump          LJ
        jump opposite left           jo<          turn twice, then jump    LLJ
        jump around left             ja<          four times both          LJLJLJLJ
        twice, thrice                2 3
        x and y, x after y           x&y x~y      first y, then x          in "x after y"

    Unlike in the paper a command may join any number of phrases with "and"; "after" joins at most two.
    """

    def question(self, size: int, rng: np.random.Generator) -> str:
        parts, left = [], size
        while left:
            phrases = fitting(left)
            phrase = phrases[rng.integers(len(phrases))]
            parts.append(phrase)
            left -= len(actions(phrase))
        command = parts[0]
        for phrase in parts[1:]:
            paired = "~" in command.rsplit("&", 1)[-1]
            command += ("&" if paired or rng.random() < 0.5 else "~") + phrase
        return command

    def answer(self, question: str) -> str:
        return "".join("".join(actions(phrase) for phrase in reversed(pair.split("~"))) for pair in question.split("&"))

    def max_characters(self, size: int) -> int:
        """Turns are longest: two letters and a joint per action."""
        return 3 * size - 1 + size


@cache
def actions(phrase: str) -> str:
    """Return the actions of one phrase."""
    verb, rest = ACTIONS[phrase[0]], phrase[1:]
    times = TIMES.get(rest[-1:], 1)
    turn = next((SIDES[letter] for letter in rest if letter in SIDES), "")
    if "o" in rest:
        return (turn + turn + verb) * times
    return (turn + verb) * (4 if "a" in rest else 1) * times


@cache
def fitting(max_actions: int) -> list[str]:
    """Return all phrases of at most `max_actions` actions."""
    sides = [manner + side for manner in ("", "o", "a") for side in SIDES]
    manners = {verb: sides if verb == "t" else ["", *sides] for verb in ACTIONS}
    every = [verb + manner + times for verb in ACTIONS for manner in manners[verb] for times in TIMES]
    return [phrase for phrase in every if len(actions(phrase)) <= max_actions]
