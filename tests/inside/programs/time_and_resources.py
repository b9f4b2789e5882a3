import resource, time
start = time.perf_counter()
time.sleep(0.02)
print(0.02 <= time.perf_counter() - start < 1, time.process_time() < 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_utime < 2, time.tzname, time.strftime("%Y", time.gmtime(0)))
