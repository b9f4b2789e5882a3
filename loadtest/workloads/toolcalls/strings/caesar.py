# status: ok
# stdout: The answer is forty-two

text = "Gur nafjre vf sbegl-gjb"

def shift(s, k):
    out = []
    for ch in s:
        if ch.isalpha():
            base = ord('A') if ch.isupper() else ord('a')
            out.append(chr((ord(ch) - base + k) % 26 + base))
        else:
            out.append(ch)
    return "".join(out)

print(shift(text, 13))
