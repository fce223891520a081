"""Learn to read handwritten digits: softmax regression first, then a multi-layer perceptron.

The data is scikit-learn's copy of the digits from the UCI repository: 1797 images of 8 x 8 grey
values, each with the digit it shows. The script trains both models, prints how well each reads 360
images it has not seen, and draws how the loss fell. From the root of the repository:

    python examples/digits.py
    python examples/digits.py --show-code           # what the training step was compiled to
    FUNCDL_BACKEND=reference python examples/digits.py    # the same without a C compiler
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import nn, optim, random

try:
    import matplotlib
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit(
        f"This example needs the package {error.name}; install all of them with\n"
        "    pip install -e '.[examples]'"
    ) from None

BATCH_SIZE = 64
NUM_TEST = 360


class Dataset(NamedTuple):
    """Images as rows of 64 numbers from 0 to 1, and the digit that each shows."""

    images: np.ndarray[Any, Any]
    digits: np.ndarray[Any, Any]

    def batches(self, rng: np.random.Generator) -> Iterator[Dataset]:
        """The examples once, in random order; what does not fill a batch is left out."""
        order = rng.permutation(len(self.digits))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            yield Dataset(self.images[chosen], self.digits[chosen])


def load_data() -> tuple[Dataset, Dataset]:
    """The training set and the test set, always the same."""
    images, digits = load_digits(return_X_y=True)
    images, digits = (images / 16).astype(np.float32), digits.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(digits))
    test, train = order[:NUM_TEST], order[NUM_TEST:]
    return Dataset(images[train], digits[train]), Dataset(images[test], digits[test])


def loss(params: Any, images: Any, digits: Any) -> Any:
    """How surprised the model is by the right answers, on average.

    `params` is a list of layers. With a single layer, the model is softmax regression.
    """
    logits = nn.mlp_apply(params, images)
    return nn.softmax_cross_entropy_with_integer_labels(logits, digits).mean()


@fd.jit
def accuracy(params: Any, images: Any, digits: Any) -> Any:
    """The share of images whose most probable digit is the right one."""
    return (fnp.argmax(nn.mlp_apply(params, images), axis=-1) == digits).mean()


def make_step(optimizer: optim.GradientTransformation) -> Any:
    """The training step, as one compiled program: loss, gradient, update."""

    # The old parameters and optimiser state are given up, so that the new ones can take their
    # memory.
    @functools.partial(fd.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, images: Any, digits: Any) -> Any:
        value, gradients = fd.value_and_grad(loss)(params, images, digits)
        updates, state = optimizer.update(gradients, state, params)
        return optim.apply_updates(params, updates), state, value

    return step


class Result(NamedTuple):
    """What became of one model."""

    name: str
    num_params: int
    losses: list[float]  # one an epoch
    test_accuracy: float
    seconds: float


def train(
    name: str,
    sizes: Sequence[int],
    data: tuple[Dataset, Dataset],
    args: argparse.Namespace,
    report: Callable[[int, float, float], None],
) -> Result:
    """Train a model, telling `report` of every epoch."""
    begin = time.perf_counter()
    train_set, test_set = data
    num_steps = args.epochs * (len(train_set.digits) // BATCH_SIZE)

    def learning_rate(step: Any) -> Any:
        """Half a cosine, from the full rate down to 0."""
        return args.learning_rate * 0.5 * (1 + fnp.cos(np.pi * step / num_steps))

    params = nn.mlp_init(random.key(args.seed), sizes)
    optimizer = optim.adamw(learning_rate, weight_decay=args.weight_decay)
    state = optimizer.init(params)
    step = make_step(optimizer)
    if args.show_code:
        first = next(train_set.batches(np.random.default_rng(0)))
        print(f"\n=== {name}: the training step ===\n")
        print(step.lower(params, state, *first).as_text(code_stage()))

    rng = np.random.default_rng(args.seed)
    losses = []
    for epoch in range(args.epochs):
        values = []
        for batch in train_set.batches(rng):
            params, state, value = step(params, state, *batch)
            values.append(float(value))
        losses.append(float(np.mean(values)))
        report(epoch + 1, losses[-1], float(accuracy(params, *test_set)))
    return Result(
        name,
        num_params=sum(leaf.size for leaf in fd.tree.leaves(params)),
        losses=losses,
        test_accuracy=float(accuracy(params, *test_set)),
        seconds=time.perf_counter() - begin,
    )


def code_stage() -> str:
    """Fusion groups, with the reason why each ends where it ends; or the plain program."""
    return "jaxpr" if fd.config.backend == "reference" else "groups"


def train_with_bar(
    console: Console,
    name: str,
    sizes: Sequence[int],
    data: tuple[Dataset, Dataset],
    args: argparse.Namespace,
) -> Result:
    """`train` with a progress bar."""
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        TextColumn("epoch {task.completed:>3}/{task.total}"),
        TextColumn("loss {task.fields[loss]:.4f}  test accuracy {task.fields[accuracy]:.1%}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=args.epochs, loss=float("nan"), accuracy=0.0)
        return train(
            name,
            sizes,
            data,
            args,
            lambda epoch, loss, accuracy: progress.update(
                task, completed=epoch, loss=loss, accuracy=accuracy
            ),
        )


def draw_losses(results: Sequence[Result], path: Path) -> None:
    """Save the loss curves as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for result in results:
        axes.plot(range(1, len(result.losses) + 1), result.losses, label=result.name)
    axes.set(xlabel="epoch", ylabel="mean training loss", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train two classifiers on handwritten digits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training set")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="at the start")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="pull towards zero")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters and the batches")
    parser.add_argument("--out", type=Path, default="digits_loss.png", help="the loss curves")
    parser.add_argument(
        "--show-code", action="store_true", help="print what each training step is compiled to"
    )
    args = parser.parse_args()
    if args.epochs < 1:
        parser.error(f"argument --epochs: must be at least 1, got {args.epochs}")
    if not args.out.parent.is_dir():
        parser.error(f"argument --out: there is no folder {args.out.parent}")
    return args


def main() -> None:
    """Train both models, print a table, save the picture."""
    args = parse_arguments()
    console = Console()
    data = load_data()
    console.print(
        f"{len(data[0].digits)} images to learn from, {len(data[1].digits)} to be tested on"
    )
    models = [("softmax regression", [64, 10]), ("MLP", [64, 256, 128, 10])]
    results = [train_with_bar(console, name, sizes, data, args) for name, sizes in models]

    table = Table("model", "parameters", "test accuracy", "time, with compiling")
    for result in results:
        table.add_row(
            result.name,
            f"{result.num_params:,}",
            f"{result.test_accuracy:.2%}",
            f"{result.seconds:.1f} s",
        )
    console.print(table)
    draw_losses(results, args.out)
    console.print(f"loss curves: {args.out}")


if __name__ == "__main__":
    main()
