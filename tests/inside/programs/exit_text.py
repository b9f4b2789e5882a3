import sys
sys.exit("this is the reason")
