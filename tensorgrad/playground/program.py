"""The Python program of what is on the page: the page trains by running it, too."""

from __future__ import annotations

from .settings import RANGE, Settings

_DATA = {
    "moons": "tg.data.moons({samples}, noise={noise}, rng=rng)",
    "circles": "tg.data.circles({samples}, noise={noise}, rng=rng, factor=0.4)",
    "spirals": "tg.data.spirals({samples}, noise={noise} / 3, rng=rng)",
    "blobs": (
        "tg.data.blobs({samples}, [[-1.0, -1.0], [1.0, 1.0]], rng=rng, cluster_std=0.2 + {noise})"
    ),
}
_FORMULAS = {
    "exclusive or": "(points[:, 0] * points[:, 1] > 0).astype(int)",
    "plane": "points.sum(axis=1) / 4",
    "hills": (
        "sum(s * np.exp(-np.sum((points - 1.2 * s) ** 2, axis=1)) for s in (-1, 1))  # two hills"
    ),
}
_FEATURES = {
    "x1": "x1",
    "x2": "x2",
    "x1^2": "x1**2",
    "x2^2": "x2**2",
    "x1 x2": "x1 * x2",
    "sin x1": "np.sin(x1)",
    "sin x2": "np.sin(x2)",
}
_OPTIMIZERS = {
    "SGD": "tg.optim.SGD(model.parameters(), lr={rate})",
    "momentum": "tg.optim.SGD(model.parameters(), lr={rate}, momentum=0.9)",
    "RMSprop": "tg.optim.RMSprop(model.parameters(), lr={rate})",
    "Adam": "tg.optim.Adam(model.parameters(), lr={rate})",
    "AdamW": "tg.optim.AdamW(model.parameters(), lr={rate})",
}
_LOSSES = {
    "logistic": "nn.binary_cross_entropy_with_logits(scores, (targets + 1) / 2)",
    "hinge": "nn.hinge_loss(scores, targets)",
    "squared": "nn.mse_loss(scores, targets)",
}
_PENALTIES = {
    "L1": "np.sum(np.abs(layer.weight))",
    "L2": "np.sum(layer.weight**2)",
}


def definitions(settings: Settings) -> str:
    """The lines that make the data, the model, and the compiled step."""
    s = settings
    loss = "squared" if s.is_regression else s.loss
    penalty = ""
    if s.penalty != "none" and s.strength:
        total = f"sum({_PENALTIES[s.penalty]} for layer in model.layers)"
        penalty = f"\n    loss = loss + {s.strength} * {total}"
    return f"""\
import numpy as np
import tensorgrad as tg
from tensorgrad import nn

rng = np.random.default_rng({s.seed})
{_points(s)}
count = max(1, len(points) * {s.share} // 100)
order = rng.permutation(len(points))
train, test = order[:count], order[count:]


def features(points):
    x1, x2 = points[..., 0], points[..., 1]
    return np.stack([{", ".join(_FEATURES[name] for name in s.features)}], axis=-1)


model = tg.MLP(
    {len(s.features)},
    {[*s.layers, 1]},
    activation="{s.activation}",
    output_activation="linear",
    rng=rng,
)
optimizer = {_OPTIMIZERS[s.optimizer].format(rate=s.rate)}


def loss_of(scores, targets):
    return {_LOSSES[loss]}


@tg.compile
def step(x, targets):
    loss = loss_of(model(x), targets){penalty}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


inputs = features(points)
batches = tg.data.batches((inputs[train], targets[train]), {s.batch}, shuffle=True, rng=rng)


def losses():
    with tg.no_grad():
        scores = model(inputs)
        parts = [loss_of(scores[part], targets[part]) for part in (train, test) if len(part)]
    return [part.item() for part in parts]
"""


def _points(s: Settings) -> str:
    own = f"np.array({[list(point) for point in s.points]}).reshape(-1, 3)"
    if s.data == "own points":
        return f"own = {own}\npoints, targets = own[:, :2], 2 * own[:, 2:] - 1"
    if s.data in _DATA:
        made = _DATA[s.data].format(samples=s.samples, noise=s.noise)
        lines = f"points, classes = {made}\npoints = tg.data.standardize(points)(points) * 1.2"
    else:
        lines = f"""\
points = rng.uniform(-2.5, 2.5, ({s.samples}, 2))
classes = {_FORMULAS[s.data]}
points = points + {s.noise} * rng.normal(size=points.shape)"""
    lines += f"\npoints = np.clip(points, -{RANGE}, {RANGE})"
    targets = "classes[:, np.newaxis]"
    lines += f"\ntargets = {targets if s.is_regression else f'2.0 * {targets} - 1'}"
    if s.points and not s.is_regression:
        lines += f"""
own = {own}
points, targets = np.vstack([points, own[:, :2]]), np.vstack([targets, 2 * own[:, 2:] - 1])"""
    return lines


def program(settings: Settings, steps: int) -> str:
    """A Python program that takes so many steps, and prints the losses that the page shows."""
    return f"""{definitions(settings)}

done = 0
while done < {steps}:
    for batch in batches:
        if done == {steps}:
            break
        step(*batch)
        done += 1

print("loss of training and test:", *losses())
"""
