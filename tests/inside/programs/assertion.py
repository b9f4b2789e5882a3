assert 1 + 1 == 3, f"sum is {1 + 1}"
