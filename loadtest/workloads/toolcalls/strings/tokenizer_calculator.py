# status: ok
# stdout: 1 + 2*3        = 7
# stdout: (1 + 2)*3      = 9
# stdout: 2^3^2          = 512
# stdout: 1/3 + 1/6      = 1/2
# stdout: -(4 - 6)^3     = 8
# stdout: 0.1 + 0.2      = 3/10
# stdout: 10/4/5         = 1/2
# stdout: ((7))          = 7
# stdout: 1/(3 - 3)      ! ZeroDivisionError: division by zero in the expression
# stdout: 2*(3           ! SyntaxError: missing closing parenthesis
# stdout: 4 4            ! SyntaxError: trailing input at Fraction(4, 1)

# A small recursive-descent calculator, so that I can evaluate the expressions exactly without eval().
from fractions import Fraction
import re

TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|(.))")


class Parser:
    """expr := term (('+'|'-') term)* ; term := factor (('*'|'/') factor)* ; factor := base ('^' factor)?"""

    def __init__(self, text):
        self.tokens = []
        for number, other in TOKEN.findall(text):
            if number:
                self.tokens.append(("num", Fraction(number)))
            elif other.strip():
                self.tokens.append(("op", other))
        self.tokens.append(("end", None))
        self.pos = 0

    def peek(self):
        return self.tokens[self.pos]

    def take(self):
        token = self.tokens[self.pos]
        self.pos += 1
        return token

    def accept(self, ops):
        kind, value = self.peek()
        if kind == "op" and value in ops:
            self.pos += 1
            return value
        return None

    def expr(self):
        value = self.term()
        while True:
            op = self.accept("+-")
            if op is None:
                return value
            right = self.term()
            value = value + right if op == "+" else value - right

    def term(self):
        value = self.factor()
        while True:
            op = self.accept("*/")
            if op is None:
                return value
            right = self.factor()
            if op == "/":
                if right == 0:
                    raise ZeroDivisionError("division by zero in the expression")
                value = value/right
            else:
                value = value*right

    def factor(self):
        base = self.base()
        if self.accept("^"):
            exponent = self.factor()
            if exponent.denominator != 1:
                raise ValueError("only integer exponents are exact")
            return base**int(exponent)
        return base

    def base(self):
        if self.accept("-"):
            return -self.base()
        if self.accept("("):
            value = self.expr()
            if not self.accept(")"):
                raise SyntaxError("missing closing parenthesis")
            return value
        kind, value = self.take()
        if kind != "num":
            raise SyntaxError(f"unexpected {value!r}")
        return value


def evaluate(text):
    parser = Parser(text)
    value = parser.expr()
    if parser.peek()[0] != "end":
        raise SyntaxError(f"trailing input at {parser.peek()[1]!r}")
    return value


cases = ["1 + 2*3", "(1 + 2)*3", "2^3^2", "1/3 + 1/6", "-(4 - 6)^3", "0.1 + 0.2", "10/4/5", "((7))", "1/(3 - 3)", "2*(3", "4 4"]
for case in cases:
    try:
        print(f"{case:14s} = {evaluate(case)}")
    except (SyntaxError, ValueError, ZeroDivisionError) as error:
        print(f"{case:14s} ! {type(error).__name__}: {error}")
