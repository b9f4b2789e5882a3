import json, numpy, scipy, sympy, pandas, networkx, matplotlib.pyplot, sys
print(sorted(m for m in ("numpy", "scipy", "sympy", "pandas") if m in sys.modules))
raise SystemExit(json.dumps({"done": True}))
