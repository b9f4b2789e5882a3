# status: ok
# limits: output_kb=256
# stdout_sha256: f7ebe54803f0991967acd09348e97964a6ae61e687e11f8f49922e044dfde951

for n in range(1, 9001):
    print(f"{n:6d} {n % 7} {n % 11} {n*n}")
