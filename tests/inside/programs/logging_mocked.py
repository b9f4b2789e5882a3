import sys, types
sys.modules["logging"] = types.ModuleType("logging")
print("before the end")
