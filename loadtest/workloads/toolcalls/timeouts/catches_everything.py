# status: timed_out
# limits: wall_s=1

while True:
    try:
        raise ValueError("try again")
    except BaseException:
        continue
