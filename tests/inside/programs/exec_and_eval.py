exec("y = 3\nprint(y)")
print(eval("y + 1"), compile("1+1", "<s>", "eval").co_filename)
exec("raise ValueError('inside exec')")
