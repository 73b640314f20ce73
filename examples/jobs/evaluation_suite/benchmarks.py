"""The benchmarks of the suite: data sets that ship inside scikit-learn."""

from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

BENCHMARKS = {"iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer, "digits": load_digits}
