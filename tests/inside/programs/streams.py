import sys
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.newlines, stream.isatty(), stream.fileno(), stream.closed)
    print(type(stream.buffer).__name__, stream.buffer.raw.name, stream.buffer.raw.mode, stream.buffer.raw.closefd)
    print(repr(stream), repr(stream.buffer))
print(sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)
print(sys.stdout.seekable(), sys.stderr.seekable(), sys.stdout.writable(), sys.stdout.readable())
