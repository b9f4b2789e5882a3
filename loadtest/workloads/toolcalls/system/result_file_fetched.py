# status: ok
# fetch: table.csv
# stdout: 6

import csv

with open("table.csv", "w", newline="") as f:
    w = csv.writer(f)
    w.writerow(["n", "n^2"])
    for n in range(1, 6):
        w.writerow([n, n*n])
print(sum(1 for _ in open("table.csv")))
