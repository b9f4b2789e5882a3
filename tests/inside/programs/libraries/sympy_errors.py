from sympy import symbols, sympify, solve
x = symbols("x")
try:
    sympify("x +* 2")
except Exception as error:
    print(type(error).__name__)
solve("x**2 -", x)
