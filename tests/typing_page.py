"""A page of a user's code, fully typed: `test_typing` has type checkers read it, and runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import tensorgrad as tg
from tensorgrad import nn, optim

Floats = NDArray[np.float64]


# -- a module of one's own


class Residual(nn.Module):
    def __init__(self, width: int, rng: int = 0) -> None:
        self.inner = nn.Linear(width, width, rng=rng)
        self.norm = nn.LayerNorm(width)
        self.scale = tg.Tensor(np.ones(width), requires_grad=True)

    def __call__(self, x: tg.Tensor) -> tg.Tensor:
        h = nn.relu(self.inner(self.norm(x)))
        assert_type(h, tg.Tensor)
        return x + self.scale * h


class Classifier(nn.Module):
    def __init__(self, classes: int) -> None:
        self.body = nn.Sequential(nn.Linear(2, 8, rng=0), nn.Tanh(), Residual(8), nn.Dropout(0.1))
        self.head = nn.Linear(8, classes, rng=1)

    def forward(self, x: tg.Tensor | Floats) -> tg.Tensor:
        return self.head(self.body(x))


# -- a training loop


def train(x: Floats, y: NDArray[np.integer[Any]]) -> list[float]:
    model = tg.MLP(2, [8, 2], output_activation="linear", rng=0)
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    schedule = optim.CosineAnnealingLR(optimizer, 10)
    losses: list[float] = []
    for _ in range(3):
        for inputs, targets in tg.data.batches((x, y), 16, shuffle=True, rng=0):
            loss = nn.cross_entropy(model(inputs), targets)
            assert_type(loss, tg.Tensor)
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
    for parameter in model.parameters():
        assert_type(parameter, tg.Tensor)
        parameter.data -= 0.1 * parameter.grad
    return losses


def compiled(x: Floats, y: Floats) -> float:
    net = tg.MLP(2, [4, 1], rng=0)
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @tg.compile
    def step(inputs: Floats, targets: Floats) -> tg.Tensor:
        loss = nn.mse_loss(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    @tg.compile(static_argnames="power")
    def penalty(w: tg.Tensor, power: int) -> tg.Tensor:
        return tg.sum(tg.abs(w) ** power)

    assert_type(step(x, y), tg.Tensor)
    assert_type(step.scan(x[None], y[None]), tg.Tensor)
    assert_type(penalty(net.layers[0].weight, power=2), tg.Tensor)
    assert_type(step.lower(x, y).peak_bytes, int)
    return float(step(x, y).detach())


class Trainer:
    def __init__(self, net: tg.MLP) -> None:
        self.net = net

    @tg.compile
    def predict(self, x: Floats) -> tg.Tensor:
        return self.net(x)

    @tg.no_grad()
    def score(self, x: Floats, y: Floats) -> float:
        return float(nn.l1_loss(self.net(x), y))


def fitted(x: Floats, y: NDArray[np.integer[Any]], folder: Path) -> tg.History:
    x_train, x_test, y_train, y_test = tg.data.train_test_split(x, y, rng=0)
    model = Classifier(2)

    def stop(history: tg.History) -> bool:
        return history["loss"][-1] < 1e-3

    optimizer = optim.Adam(model.parameters(), lr=0.01)
    history = tg.fit(
        model,
        nn.cross_entropy,
        tg.data.batches((x_train, y_train), 32, shuffle=True, rng=0),
        optimizer=optimizer,
        epochs=2,
        validation=[(x_test, y_test)],
        metrics={"accuracy": tg.training.accuracy},
        schedule=optim.ExponentialLR(optimizer, 0.9),
        callbacks=[stop],
        early_stopping=3,
        clip=1.0,
        progress=False,
    )
    assert_type(history["val_accuracy"], list[float])
    state = model.state_dict()
    assert_type(state, dict[str, NDArray[Any]])
    other = Classifier(2)
    assert_type(other.load_state_dict(state).missing_keys, list[str])
    tg.save(folder / "model.npz", state)
    return history


# -- derivatives of functions


def energy(w: tg.Tensor, x: Floats, scale: float = 1.0) -> tg.Tensor:
    return tg.mean(tg.tanh(x * w) ** 2) * scale


def exponential_back(g: Any, y: Any, _x: Any) -> Any:
    return g * y


@tg.differentiable(exponential_back)
def exponential(x: tg.Tensor) -> tg.Tensor:
    return tg.exp(x)


@tg.checkpoint
def block(x: tg.Tensor) -> tg.Tensor:
    return tg.sin(x).sum()


def derivatives(x: Floats) -> None:
    w = tg.Tensor(x, requires_grad=True)
    assert_type(tg.value_and_grad(energy)(w, x, scale=2.0), tuple[Any, Any])
    tg.grad(tg.compile(energy), argnums=(0,))(w, x)
    tg.elementwise_grad(np.sin)(x)
    tg.jacobian(exponential)(w)
    tg.hessian(block)(w)
    assert_type(tg.checkpoint(block)(w), tg.Tensor)
    assert_type(exponential(w), tg.Tensor)
    assert_type(tg.gradcheck(exponential, w), bool)
    assert_type(tg.profile(energy)(w, x).operations[0].name, str)


# -- arrays and tensors


def operators(t: tg.Tensor, a: Floats) -> None:
    for result in (
        t + 1,
        2.0 * t,
        t @ a,
        -t,
        t**2,
        abs(t),
        t > a,
        t == 0,
        t != a,
        t[0],
        t[:, None],
    ):
        assert_type(result, tg.Tensor)
    assert_type(divmod(t, 2), tuple[tg.Tensor, tg.Tensor])
    assert_type(t.sum(axis=0, keepdims=True), tg.Tensor)
    assert_type(t.max(), tg.Tensor)
    assert_type(t.std(ddof=1).clip(min=0), tg.Tensor)
    assert_type(t.nonzero(), tuple[tg.Tensor, ...])
    assert_type(t.T.reshape(-1).astype(np.float32), tg.Tensor)
    assert_type(t.shape, tuple[int, ...])
    assert_type(t.data, NDArray[Any])
    assert_type(list(t), list[tg.Tensor])
    assert_type(tg.special.logsumexp(t), tg.Tensor)
    assert_type(tg.special.erf(t), tg.Tensor)
    assert_type(tg.asarray([t, 2 * t]), tg.Tensor)
    assert_type(tg.concat([t, t]), tg.Tensor)
    assert_type(tg.linspace(0, 1, 5), tg.Tensor)
    assert_type(tg.fft.rfft(t), tg.Tensor)
    assert_type(tg.safe_where(t > 0, np.log, t), tg.Tensor)
    with tg.no_grad(), tg.guard():
        t.data[0] = 1.0


def numpys_functions(t: tg.Tensor, ts: Sequence[tg.Tensor]) -> None:
    """NumPy's own stubs accept tensors. What they say of the results is another matter."""
    assert_type(np.sum(t), Any)
    assert_type(np.max(t, axis=0), Any)
    np.mean(t, axis=0)
    np.add(np.exp(t), np.maximum(t, 0) * np.where(t > 0, t, 0))
    np.concatenate(ts)
    np.stack([t, t])
    np.einsum("i,i->", t, t)
    np.linalg.norm(t)
    np.linalg.solve(np.eye(3), t)
    np.flip(np.sort(t))
    np.asarray(t.detach())


def refused(t: tg.Tensor, x: Floats) -> None:
    """What checkers must not accept: an ignored error that is none is an error."""
    tg.grad(energy)(t, x, size=2.0)  # type: ignore[call-arg]
    tg.compile(energy)(t)  # type: ignore[call-arg]
    t.sum(dim=0)  # type: ignore[call-arg]
    t.softmax()  # type: ignore[attr-defined]
    tg.nothing()  # type: ignore[attr-defined]
    nn.mse_loss(t, x, reduction="total")  # type: ignore[arg-type]


def main(folder: Path) -> None:
    points, classes = tg.data.moons(64, rng=0)
    losses = train(points, classes)
    assert losses[-1] < losses[0]
    y = np.sin(points[:, :1])
    assert compiled(points, y) > 0
    trainer = Trainer(tg.MLP(2, [1], rng=0))
    assert trainer.score(points, y) == float(nn.l1_loss(trainer.predict(points), y))
    assert fitted(points, classes, folder)["loss"]
    derivatives(points[0])
    t = tg.Tensor(np.eye(3))
    operators(t, np.eye(3))
    numpys_functions(t[0], [t, t])
