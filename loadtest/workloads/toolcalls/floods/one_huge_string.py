# status: output_limit
# limits: output_kb=16
# truncated: stdout
# stdout_sha256: 1536c422c31cc98834759d7085cda394a3510a03d78188248986a6b1a7207d03

print("x"*50_000_000)
