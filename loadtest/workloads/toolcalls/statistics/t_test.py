# status: ok
# stdout: -5.2457 0.000206

from scipy import stats

a = [5.1, 4.9, 5.6, 5.8, 6.0, 5.5, 5.3]
b = [6.2, 6.8, 6.0, 6.5, 7.1, 6.4, 6.6]
r = stats.ttest_ind(a, b)
print(round(float(r.statistic), 4), round(float(r.pvalue), 6))
