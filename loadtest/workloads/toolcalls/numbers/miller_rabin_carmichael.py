# status: ok
# stdout: Carmichael numbers: [561, 1105, 1729, 2465, 2821, 6601, 8911]
# stdout:   561 = 3 * 11 * 17     Korselt: True  Miller-Rabin says prime: False
# stdout:  1105 = 5 * 13 * 17     Korselt: True  Miller-Rabin says prime: False
# stdout:  1729 = 7 * 13 * 19     Korselt: True  Miller-Rabin says prime: False
# stdout:  2465 = 5 * 17 * 29     Korselt: True  Miller-Rabin says prime: False
# stdout:  2821 = 7 * 13 * 31     Korselt: True  Miller-Rabin says prime: False
# stdout:  6601 = 7 * 23 * 41     Korselt: True  Miller-Rabin says prime: False
# stdout:  8911 = 7 * 19 * 67     Korselt: True  Miller-Rabin says prime: False
# stdout: disagreements below 20000: []
# stdout: primes among 20 random 12-digit numbers: 0
# stdout: Chernick: 1 1729 [7, 13, 19]
# stdout: Chernick: 6 294409 [37, 73, 109]
# stdout: Chernick: 35 56052361 [211, 421, 631]
# stdout: Chernick: 45 118901521 [271, 541, 811]
# stdout: Chernick: 51 172947529 [307, 613, 919]
# stdout: Chernick: 55 216821881 [331, 661, 991]
# stdout: Chernick: 56 228842209 [337, 673, 1009]

# Which composites below 10000 fool the Fermat test for every base coprime to them? Then show that Miller-Rabin
# is not fooled, with the witnesses that it uses, and factor the numbers that we found.
import math
import random


def is_prime_trial(n):
    if n < 2:
        return False
    for d in range(2, math.isqrt(n) + 1):
        if n % d == 0:
            return False
    return True


def fermat_liar_for_all(n):
    """True if a^(n-1) = 1 (mod n) for every a coprime to n."""
    for a in range(2, n):
        if math.gcd(a, n) == 1 and pow(a, n - 1, n) != 1:
            return False
    return True


def decompose(n):
    d, s = n - 1, 0
    while d % 2 == 0:
        d //= 2
        s += 1
    return d, s


def miller_rabin(n, bases=(2, 3, 5, 7)):
    if n < 2:
        return False
    for p in (2, 3, 5, 7, 11, 13):
        if n % p == 0:
            return n == p
    d, s = decompose(n)
    for a in bases:
        x = pow(a, d, n)
        if x in (1, n - 1):
            continue
        for _ in range(s - 1):
            x = x*x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def factor(n):
    out = []
    d = 2
    while d*d <= n:
        while n % d == 0:
            out.append(d)
            n //= d
        d += 1
    if n > 1:
        out.append(n)
    return out


carmichael = [n for n in range(3, 10000, 2) if not is_prime_trial(n) and fermat_liar_for_all(n)]
print("Carmichael numbers:", carmichael)
for n in carmichael:
    fs = factor(n)
    korselt = all((n - 1) % (p - 1) == 0 for p in fs) and len(set(fs)) == len(fs)
    print(f"{n:5d} = {' * '.join(map(str, fs)):15s} Korselt: {korselt}  Miller-Rabin says prime: {miller_rabin(n)}")

wrong = [n for n in range(2, 20000) if miller_rabin(n) != is_prime_trial(n)]
print("disagreements below 20000:", wrong)

random.seed(7)
sample = [random.randrange(10**11, 10**12) for _ in range(20)]
print("primes among 20 random 12-digit numbers:", sum(map(miller_rabin, sample)))

# Chernick: (6k+1)(12k+1)(18k+1) is a Carmichael number whenever the three factors are prime
for k in range(1, 60):
    p, q, r = 6*k + 1, 12*k + 1, 18*k + 1
    if is_prime_trial(p) and is_prime_trial(q) and is_prime_trial(r):
        print("Chernick:", k, p*q*r, factor(p*q*r))
