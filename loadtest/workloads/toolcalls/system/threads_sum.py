# status: ok
# stdout: 170634668000 332833500

from concurrent.futures import ThreadPoolExecutor

def part(k):
    return sum(i*i for i in range(k*1000, (k + 1)*1000))

with ThreadPoolExecutor(max_workers=4) as ex:
    parts = list(ex.map(part, range(8)))
print(sum(parts), parts[0])
