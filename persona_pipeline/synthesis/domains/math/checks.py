"""A wrong calculation in the solution, or an answer that the solution does not reach."""

import re
from collections.abc import Mapping
from fractions import Fraction

from pydantic import JsonValue

_TIMES, _OVER = "*x\N{MULTIPLICATION SIGN}", "/\N{DIVISION SIGN}"
_SIGN = rf"[-+{_TIMES}{_OVER}]"
_NUMBER = r"\$?\d+(?:,\d{3})*(?:\.\d+)?%?"
_MORE = rf"\s*{_SIGN}\s*{_NUMBER}"
_NOTHING_BEFORE = rf"(?<![\d.)^])(?<!{_SIGN})(?<!{_SIGN}\s)"
_EQUATION = re.compile(rf"{_NOTHING_BEFORE}({_NUMBER}(?:{_MORE})+)\s*=\s*({_NUMBER}(?:{_MORE})*)")
_PART = re.compile(rf"{_NUMBER}|{_SIGN}")


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
    parts = _PART.findall(expression)
    numbers, signs = parts[::2], parts[1::2]
    terms = [_number(numbers[0])]
    for sign, text in zip(signs, numbers[1:], strict=True):
        value = _number(text)
        if sign in _TIMES:
            terms[-1] *= value
        elif sign in _OVER:
            if not value:
                return None
            terms[-1] /= value
        else:
            terms.append(value if sign == "+" else -value)
    return sum(terms, Fraction())


def _number(text: str) -> Fraction:
    value = Fraction(text.strip("$%").replace(",", ""))
    return value / 100 if text.endswith("%") else value
