import sys, argparse
print(sys.argv)
parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int)
parser.add_argument("rest", nargs="*")
print(parser.parse_args())
print(sys.orig_argv[1:])
