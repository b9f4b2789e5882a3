# status: ok
# stdin: name,points
# stdin: ada,12
# stdin: emmy,15
# stdin: sofia,9
# stdout: 3 emmy 36

import csv
import sys

rows = list(csv.DictReader(sys.stdin))
best = max(rows, key=lambda r: int(r["points"]))
print(len(rows), best["name"], sum(int(r["points"]) for r in rows))
