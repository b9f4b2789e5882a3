# status: output_limit
# limits: output_kb=4
# truncated: stdout
# stdout_sha256: 36559a1dee2a4d38cd92aa075893b35f644076c2a0cae39cd32a11901af20e00

while True:
    print("still searching...")
