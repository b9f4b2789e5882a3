# status: ok
# stdout: 19
# stdout: [45, 75, 90, 150, 180, 300, 315, 360, 495, 525, 585, 600, 630, 720, 765]

# Find the number of positive integers n <= 1000 such that 15n has exactly 15 divisors more... brute force it
from sympy import divisor_count

hits = [n for n in range(1, 1001) if divisor_count(15*n) == 2*divisor_count(n)]
print(len(hits))
print(hits[:15])
