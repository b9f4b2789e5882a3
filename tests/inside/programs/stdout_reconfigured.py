import sys
sys.stdout.reconfigure(encoding="latin-1", errors="replace", line_buffering=True)
print("né €")
sys.stdout.reconfigure(newline="\r\n")
print("a\nb")
