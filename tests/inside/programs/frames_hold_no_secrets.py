import gc, types
print([f for f in gc.get_objects() if isinstance(f, types.FrameType) and f.f_code.co_filename != __file__])
