import random
import runner
import statistics
print(random.randint(1, 6), runner.x, statistics.y)
