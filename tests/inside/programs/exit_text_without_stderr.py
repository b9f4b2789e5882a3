import sys
sys.stderr = None
sys.exit("unheard?")
