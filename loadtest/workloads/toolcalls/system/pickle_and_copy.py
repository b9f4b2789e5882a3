# status: ok
# stdout: True False [('a', [1, 2, {'b': (3, 4)}])]

import copy
import pickle
from collections import OrderedDict

d = OrderedDict(a=[1, 2, {"b": (3, 4)}])
e = pickle.loads(pickle.dumps(d))
f = copy.deepcopy(d)
f["a"].append(5)
print(e == d, f == d, list(e.items()))
