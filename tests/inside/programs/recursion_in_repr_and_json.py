import json
x = []
x.append(x)
print(x)
for _ in range(100000):
    x = [x]
try:
    repr(x)
except RecursionError as error:
    print(error)
try:
    json.dumps(x)
except RecursionError as error:
    print(error)
