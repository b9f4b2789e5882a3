# status: ok
# stdout: 303

from multiprocessing import Pool

def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))

if __name__ == "__main__":
    with Pool(2) as p:
        flags = p.map(is_prime, range(2000))
    print(sum(flags))
