import sys, os
print(sys.path, sys.path_hooks is not None, os.getcwd(), sys.executable, sys.prefix == sys.base_prefix)
print(os.listdir("."))
