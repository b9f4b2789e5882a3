# status: ok
# stdout: 1 2 Δ
# stdout: 11 14 π ≈ 3.14159
# stdout: 14 16 ∑ k = n(n+1)/2
# stdout: 10 12 naïve café
# stdout: 2 6 数学
# stdout: 1 4 🙂

names = ["Δ", "π ≈ 3.14159", "∑ k = n(n+1)/2", "naïve café", "数学", "🙂"]
for s in names:
    print(len(s), len(s.encode()), s)
