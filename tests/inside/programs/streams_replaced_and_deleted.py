import sys, os
sys.stdout=sys.__stdout__=open("/dev/stdout","w"); print("a")
sys.stderr=sys.__stderr__=os.fdopen(2,"w"); print("b",file=sys.stderr)
