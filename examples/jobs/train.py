"""Train a classifier on scikit-learn's digits: an ordinary script that knows nothing of the notebook."""

import argparse

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--average", action=argparse.BooleanOptionalAction, default=False)
arguments = parser.parse_args()

images, digits = load_digits(return_X_y=True)
train_x, val_x, train_y, val_y = train_test_split(images / 16, digits, random_state=0, stratify=digits)
model = SGDClassifier(learning_rate="constant", eta0=arguments.lr, average=arguments.average, random_state=0)
for epoch in range(1, arguments.epochs + 1):
    model.partial_fit(train_x, train_y, classes=range(10))
    print(f"epoch: {epoch}  train_acc: {model.score(train_x, train_y):.4f}  val_acc: {model.score(val_x, val_y):.4f}")
print(f"Final accuracy: {model.score(val_x, val_y):.4f}")
