# status: ok
# stdout: ['42', '\\frac{3}{7}']
# stdout: ['1', '2']

import re

latex = r"We have \boxed{42} and earlier \boxed{\frac{3}{7}}; the sum is $x_1 + x_2 = 12$."
print(re.findall(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", latex))
print(re.findall(r"x_(\d)", latex))
