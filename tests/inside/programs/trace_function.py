import sys
lines = []
def tracer(frame, event, arg):
    lines.append((event, frame.f_lineno, frame.f_code.co_name))
    return tracer
def f(x):
    y = x + 1
    return y
sys.settrace(tracer)
f(1)
sys.settrace(None)
print(lines)
