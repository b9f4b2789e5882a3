print(list({"a", "b", "c", "delta", "epsilon", 1, 2.5, None}))
print(hash("text"), hash(b"bytes"), hash((1, "x")))
