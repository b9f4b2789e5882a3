import importlib, json, sys
importlib.reload(json)
del sys.modules["json"]
import json as again
print(again is not json, again.dumps([1]))
