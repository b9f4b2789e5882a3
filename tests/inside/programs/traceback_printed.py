import traceback, sys, logging
def f():
    traceback.print_stack()
    try:
        raise ValueError("v")
    except ValueError:
        traceback.print_exc()
        logging.exception("logged")
        print(traceback.format_exc())
f()
print(traceback.extract_stack())
