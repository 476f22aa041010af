"""A wrong calculation in the solution, or an answer that the solution does not reach."""

import re
from collections.abc import Mapping
from fractions import Fraction

from pydantic import JsonValue

_NUMBER = r"\$?\d+(?:,\d{3})*(?:\.\d+)?%?"
_CALCULATION = rf"{_NUMBER}(?:\s*[-+*/×÷x]\s*{_NUMBER})"
_EQUATION = re.compile(rf"(?<![\d.)^])({_CALCULATION}+)\s*=\s*({_CALCULATION}|{_NUMBER})")
_TOKEN = re.compile(rf"{_NUMBER}|[-+*/×÷x]")


def check(answer: Mapping[str, JsonValue]) -> str | None:
    """What is wrong with the arithmetic, or None."""
    solution, final = str(answer["solution"]), str(answer["answer"])
    for left, right in _EQUATION.findall(solution):
        value, claimed = _evaluate(left), _evaluate(right)
        if value is None or claimed is None or abs(value - claimed) > Fraction(1, 100):
            return f"wrong calculation: {left} = {right}"
    numbers = [_number(text) for text in re.findall(_NUMBER, solution)]
    if any(_number(text) not in numbers for text in re.findall(_NUMBER, final)):
        return f"the solution does not reach the answer {final!r}"
    return None


def _evaluate(expression: str) -> Fraction | None:
    """The value of numbers joined by + - * /, multiplication first; None for a division by 0."""
    numbers, signs = [], []
    for token in _TOKEN.findall(expression):
        (signs if token in "-+*/×÷x" else numbers).append(token)
    terms = [_number(numbers[0])]
    for sign, text in zip(signs, numbers[1:], strict=True):
        value = _number(text)
        if sign in "*×x":
            terms[-1] *= value
        elif sign in "/÷":
            if not value:
                return None
            terms[-1] /= value
        else:
            terms.append(value if sign == "+" else -value)
    return sum(terms, Fraction())


def _number(text: str) -> Fraction:
    value = Fraction(text.strip("$%").replace(",", ""))
    return value / 100 if text.endswith("%") else value
