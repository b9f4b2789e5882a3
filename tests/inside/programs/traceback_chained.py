class Problem(Exception):
    pass
try:
    try:
        {}["key"]
    except KeyError as error:
        raise Problem("inner") from error
except Problem:
    raise ValueError("outer\nsecond line")
