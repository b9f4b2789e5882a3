π = 3.14159
print(f"π ≈ {π:.2f} 😀 naïve 中文 \u202e")
print("\x00\x07bell")
