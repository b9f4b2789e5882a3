# status: ok
# stdout: 47
# stdout: True
# stdout: ['deep']

import json
import os

data = {"primes": [2, 3, 5, 7], "name": "réseau"}
with open("data.json", "w", encoding="utf-8") as f:
    json.dump(data, f)
print(os.path.getsize("data.json"))
with open("data.json", encoding="utf-8") as f:
    print(json.load(f) == data)
os.makedirs("out/deep", exist_ok=True)
open("out/deep/x.txt", "w").write("hello")
print(sorted(os.listdir("out")))
