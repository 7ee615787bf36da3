"""The estimators beside scikit-learn's, whose checks and tests they pass."""

import functools
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .depth import FULL, full_run_only, one_in

pytest.importorskip("sklearn")

from scipy.sparse import csr_array, csr_matrix, random_array
from sklearn import neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import estimator_checks_generator

import tensorgrad as tg
from tensorgrad.estimators import MLPClassifier, MLPRegressor, NetClassifier, NetRegressor
from tensorgrad.estimators.trainers import Kind, Trainer, _kept, borrowed

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


# -- scikit-learn's own checks and tests


CHECKED = [
    estimator(max_iter=20)
    for estimator in (MLPClassifier, MLPRegressor, NetClassifier, NetRegressor)
]
CHECKS = [pair for estimator in CHECKED for pair in estimator_checks_generator(estimator)]


def _name(value: Any) -> str | None:
    return getattr(getattr(value, "func", None), "__name__", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), one_in(12, CHECKS), ids=_name)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    # Some checks compare scores, which takes more epochs than the quick ones.
    check(clone(estimator).set_params(max_iter=100) if FULL else estimator)


# They read private attributes of scikit-learn's class: its optimizer, and its backward pass.
PRIVATE = {"test_gradient", "test_learning_rate_warmstart", "test_adaptive_learning_rate"}


@full_run_only
def test_scikit_learn_tests(tmp_path: Path) -> None:
    path = Path(neural_network.__file__).parent / "tests" / "test_mlp.py"
    if not path.is_file():
        pytest.skip("scikit-learn is installed without its tests")
    imports = "from sklearn.neural_network import MLP"
    text = path.read_text(encoding="utf-8")
    assert imports in text
    (tmp_path / "test_theirs.py").write_text(
        text.replace(imports, "from tensorgrad.estimators import MLP"), encoding="utf-8"
    )
    options = ["-q", "-rf", "-p", "no:cacheprovider", "-p", "sklearn.conftest", "-c", os.devnull]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path / "test_theirs.py")]
    out = subprocess.run(command, capture_output=True, text=True).stdout
    assert {*re.findall(r"^FAILED \S+::(\w+)", out, re.M)} == PRIVATE, out
    assert int(re.findall(r"(\d+) passed", out)[0]) > 40


# -- the same trainings as scikit-learn's

SGD = {"solver": "sgd", "learning_rate_init": 0.1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {**SGD, "momentum": 0},
    "nesterov": SGD,
    "heavy ball": {**SGD, "nesterovs_momentum": False},
    "invscaling": {**SGD, "learning_rate": "invscaling"},
    "adaptive": {**SGD, "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "adam": {"beta_1": 0.8, "epsilon": 1e-4},
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2},
    "in order": {"shuffle": False},
    "logistic": {"activation": "logistic", "alpha": 1.0},
    "tanh": {"activation": "tanh", "hidden_layer_sizes": (7, 5)},
    "identity": {"activation": "identity", "hidden_layer_sizes": ()},
}


def _data(n: int = 150) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    return x, x[:, :3] + np.sin(3 * x[:, 1:4])


def _targets(kind: str, y: Any) -> Any:
    return {
        "multiclass": np.array(["a", "b", "c"])[np.argmax(y, axis=1)],
        "binary": np.where(y[:, 0] > 0, 7, -3),
        "multilabel": (y > 0).astype(int),
        "numbers": y[:, 0],
        "several numbers": y,
        "counts": np.floor(np.abs(y[:, 0])),
    }[kind]


def _pair(kind: str, **options: Any) -> tuple[Any, Any]:
    options = {
        "hidden_layer_sizes": (8,),
        "max_iter": 6,
        "batch_size": 40,
        "random_state": 3,
    } | options
    if kind == "counts":
        options["loss"] = "poisson"
    is_class = kind in ("multiclass", "binary", "multilabel")
    theirs = neural_network.MLPClassifier if is_class else neural_network.MLPRegressor
    return theirs(**options), (MLPClassifier if is_class else MLPRegressor)(**options)


def _require_same(theirs: Any, ours: Any, x: Any) -> None:
    curves = [np.array([*getattr(e, "loss_curve_", []), e.loss_]) for e in (theirs, ours)]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-8)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.out_activation_ == theirs.out_activation_
    for name in ("t_", "n_layers_", "n_outputs_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        getattr(ours, "predict_proba", ours.predict)(x),
        getattr(theirs, "predict_proba", theirs.predict)(x),
        rtol=1e-5,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_trainings_are_those_of_scikit_learn(variant: str, weighted: bool) -> None:
    x, y = _data()
    y = _targets("multiclass", y)
    theirs, ours = _pair("multiclass", **VARIANTS[variant])
    weight = np.arange(len(y)) % 3 + 0.5 if weighted else None
    _require_same(theirs.fit(x, y, weight), ours.fit(x, y, weight), x)
    assert [*ours.predict(x)] == [*theirs.predict(x)]


@pytest.mark.parametrize("kind", ["binary", "multilabel", "numbers", "several numbers", "counts"])
def test_targets_are_those_of_scikit_learn(kind: str) -> None:
    x, y = _data()
    y = _targets(kind, y)
    theirs, ours = _pair(kind)
    _require_same(theirs.fit(x, y), ours.fit(x, y), x)
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y))


def test_partial_fit_continues_as_that_of_scikit_learn() -> None:
    x, y = _data()
    y = _targets("binary", y)
    theirs, ours = _pair("binary")
    for part in (slice(0, 50), slice(50, 150)):
        theirs.partial_fit(x[part], y[part], classes=[-3, 7])
        ours.partial_fit(x[part], y[part], classes=[-3, 7])
        ours = pickle.loads(pickle.dumps(ours))
    _require_same(theirs, ours, x)


# -- what scikit-learn's has not, and the trainers that fits share


def test_class_weights_are_weights_of_samples() -> None:
    x, y = _data()
    y = _targets("binary", y)
    ours = _pair("binary")[1]
    by_class = clone(ours).set_params(class_weight={-3: 4.0, 7: 0.5}).fit(x, y)
    by_sample = clone(ours).fit(x, y, np.where(y == 7, 0.5, 4.0))
    assert by_class.loss_curve_ == by_sample.loss_curve_
    balanced = clone(ours).set_params(class_weight="balanced").fit(x, y)
    assert balanced.loss_curve_ != clone(ours).fit(x, y).loss_curve_


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_float32_stays_and_sparse_samples_give_the_same(solver: str) -> None:
    x, y = _data()
    y = _targets("multiclass", y)
    ours = _pair("multiclass", solver=solver)[1].fit(x, y)
    sparse = clone(ours).fit(csr_array(x), y)
    assert sparse.loss_ == ours.loss_
    np.testing.assert_allclose(sparse.predict_proba(csr_array(x)), ours.predict_proba(x))
    single = clone(ours).fit(x.astype(np.float32), y)
    assert {w.dtype for w in single.coefs_} == {single.predict_proba(x.astype("f4")).dtype}
    assert single.coefs_[0].dtype == np.float32
    assert single.loss_ == pytest.approx(ours.loss_, rel=1e-2)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_wide_samples_stay_sparse(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = random_array((150, 1000), density=0.02, rng=np.random.default_rng(0)), _data()[1]
    theirs, ours = _pair("multiclass", solver=solver)
    theirs.fit(x, _targets("multiclass", y))

    to_array = csr_array.toarray

    def narrow(x: Any) -> Any:
        assert x.shape[1] < 1000  # targets, which scikit-learn makes dense
        return to_array(x)

    monkeypatch.setattr(csr_array, "toarray", narrow)
    _require_same(theirs, ours.fit(x.tocsc(), _targets("multiclass", y)), x.tocsr())


def test_fits_that_share_a_trainer_do_not_share_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _data()
    y = _targets("multiclass", y)
    first = _pair("multiclass")[1].fit(x, y)
    before = [w.copy() for w in first.coefs_]
    second = clone(first).set_params(alpha=1.0, learning_rate_init=0.1).fit(x, y)
    assert all(map(np.array_equal, before, first.coefs_))
    assert second.loss_ != first.loss_
    assert clone(first).fit(x, y).loss_curve_ == first.loss_curve_
    kind = Kind(first._network(5), "float64", "adam", ("lr", "betas", "eps"), "")
    with borrowed(kind) as one, borrowed(kind) as other:
        assert one is not other
    with borrowed(kind) as again:
        assert again is other or again is one
    monkeypatch.setattr("tensorgrad.estimators.trainers.LARGE", 0)
    with borrowed(kind) as one:
        pass
    with borrowed(kind) as again:
        assert again is not one


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_each_fit_gives_the_same_result(solver: str) -> None:
    x, y = load_digits(return_X_y=True)
    ours = MLPClassifier(solver=solver, alpha=1, max_iter=30, random_state=0)
    _kept.clear()
    first = clone(ours).fit(x / 16, y)
    again = clone(ours).fit(x / 16, y)
    assert all(map(np.array_equal, first.coefs_, again.coefs_))


def test_streams_of_any_batches_compile_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _data()
    y = _targets("binary", y)
    theirs, ours = _pair("binary", batch_size="auto", hidden_layer_sizes=(9,))
    made: list[Any] = []
    compile_one = Trainer._compile
    monkeypatch.setattr(Trainer, "_compile", lambda *args: made.append(args) or compile_one(*args))
    for n in (1, 5, 7, 30, 31, 32, 33, 60, 64, 6):
        theirs.partial_fit(x[:n], y[:n], classes=[-3, 7])
        ours.partial_fit(x[:n], y[:n], classes=[-3, 7])
    _require_same(theirs, ours, x)
    assert len(made) == 4  # for 1, 8, 32 and 64 samples


def test_a_warm_start_with_other_parameters_goes_on_or_is_refused() -> None:
    x, y = _data()
    y = _targets("binary", y)
    ours = _pair("binary", solver="lbfgs", warm_start=True)[1].fit(x, y)
    ours.set_params(solver="adam").fit(x.astype(np.float32), y)
    assert len(ours.loss_curve_) == 6
    assert ours.coefs_[0].dtype == np.float64  # those of the first fit
    ours.set_params(early_stopping=True).fit(x, y)
    assert len(ours.validation_scores_) == 6
    assert ours.best_loss_ is None
    ours.set_params(early_stopping=False).partial_fit(x, y)
    assert ours.best_loss_ == ours.loss_curve_[-1]
    assert len(ours.loss_curve_) == 13
    ours.set_params(hidden_layer_sizes=(3,))
    with pytest.raises(
        ValueError, match=r"layers of \(5, 8, 1\) units, but hidden_layer_sizes and"
    ):
        ours.fit(x, y)


def test_a_warm_start_keeps_the_best_weights_of_all_fits() -> None:
    x, y = _data()
    y = _targets("multiclass", y)
    ours = _pair("multiclass", early_stopping=True, warm_start=True)[1].fit(x, y)
    ours.set_params(learning_rate_init=1e-12)
    before = [w.copy() for w in ours.coefs_]
    assert all(map(np.array_equal, before, ours.fit(x, y).coefs_))


def test_batches_without_weight_change_nothing() -> None:
    x, y = _data()
    weight = np.where(np.arange(150) < 40, 0.0, 1.0)
    part = slice(40, None)
    for kind in ("multiclass", "several numbers"):
        target = _targets(kind, y)
        ours = _pair(kind, solver="sgd", momentum=0, shuffle=False)[1]
        whole = clone(ours).fit(x, target, weight)
        expected = clone(ours).fit(x[part], target[part])
        for found, other in zip(whole.coefs_, expected.coefs_):
            np.testing.assert_allclose(found, other, rtol=1e-9)
    net = NetRegressor(_small(5, 3, 0), None, _sgd, batch_size=40, max_iter=3, shuffle=False)
    np.testing.assert_allclose(
        clone(net).fit(x, y, weight).predict(x), clone(net).fit(x[part], y[part]).predict(x)
    )


def test_large_epochs_are_gathered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _data()
    ours = _pair("numbers")[1].fit(x, y[:, 0])
    monkeypatch.setattr("tensorgrad.estimators.batches.AT_ONCE", 250)  # 50 samples: a batch
    np.testing.assert_array_equal(clone(ours).fit(x, y[:, 0]).coefs_[0], ours.coefs_[0])


def test_callers_of_verbose_fits_see_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = _data()
    _pair("numbers", verbose=True, early_stopping=True, max_iter=2)[1].fit(x, y[:, 0])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0].partition(":")[0] for line in lines] == [
        "Iteration 1",
        "Validation score",
        "Iteration 2",
        "Validation score",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "rmsprop"}, "solver must be one of 'lbfgs', 'sgd', 'adam', not 'rmsprop'"),
        ({"alpha": -1}, "alpha must be a number of at least 0, not -1"),
        ({"max_iter": 0}, "max_iter must be an integer of at least 1, not 0"),
        ({"batch_size": 1.5}, "batch_size must be one of 'auto' or an integer of at least 1"),
        ({"momentum": 2}, "momentum must be a number from 0 to 1, not 2"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0: an integer, or a seq"),
        ({"hidden_layer_sizes": [[3]]}, "hidden_layer_sizes must be > 0: an integer, or a seq"),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dict"),
        ({"class_weight": {7: np.nan}}, "class_weight must be None, 'balanced' or a dict of fin"),
        ({"n_iter_no_change": 1.5}, "n_iter_no_change must be an integer of at least 1 or a numb"),
        ({"random_state": "a"}, "random_state must be None, an integer from 0 to 2**32 - 1, or"),
        ({"verbose": -1}, "verbose must be True or False or an integer of at least 0, not -1"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], message: str) -> None:
    x, y = _data()
    with pytest.raises(ValueError, match=f"^MLPClassifier: {re.escape(message)}"):
        MLPClassifier(**options).fit(x, _targets("binary", y))


def test_wrong_data_is_named() -> None:
    x, y = _data()
    for ours in (MLPClassifier(), NetClassifier()):
        labels = _targets("binary", y)
        with pytest.raises(ValueError, match="all samples have a weight of zero: change sample_we"):
            clone(ours).set_params(class_weight={-3: 0, 7: 1}).fit(x, labels, labels < 0)
        with pytest.raises(ValueError, match="partial_fit cannot balance classes"):
            clone(ours).set_params(class_weight="balanced").partial_fit(x, labels, classes=[-3, 7])
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            clone(ours).partial_fit(x, labels)
        with pytest.raises(ValueError, match=r"classes=\[7\]` is not the same as on last call"):
            clone(ours).set_params(max_iter=1).fit(x, labels).partial_fit(x, labels, classes=[7])
    with pytest.raises(ValueError, match="sample_weight must be a vector"):
        MLPRegressor().fit(x, y[:, 0], sample_weight=np.ones((150, 1)))
    with pytest.raises(ValueError, match="is for counts: y has the negative number"):
        MLPRegressor("poisson").fit(x, y[:, 0])
    with pytest.warns(ConvergenceWarning, match="lbfgs ended after 1 iterations before"):
        MLPRegressor(solver="lbfgs", max_iter=1).fit(x, y)


# -- modules as estimators


def _small(n_features: int, n_outputs: int, rng: Any) -> tg.nn.Module:
    sizes = [8, n_outputs]
    return tg.MLP(n_features, sizes, activation="tanh", output_activation="linear", rng=rng)


def _sgd(parameters: Any) -> tg.optim.Optimizer:
    return tg.optim.SGD(parameters, lr=0.1)


def test_modules_train_as_by_fit() -> None:
    x, y = _data()
    net = NetRegressor(_small, tg.nn.huber_loss, _sgd, batch_size=40, max_iter=3, random_state=5)
    net.fit(x, y)
    rng = np.random.default_rng(np.random.RandomState(5).randint(1 << 31))
    module = _small(5, 3, rng)
    batches = tg.data.batches((x, y), 40, shuffle=True, rng=rng)
    optimizer = _sgd(module.parameters())
    options: dict[str, Any] = {"epochs": 3, "compile": False, "progress": False}
    history = tg.fit(module, tg.nn.huber_loss, batches, optimizer=optimizer, **options)
    assert net.history_["loss"] == history["loss"]
    np.testing.assert_array_equal(net.predict(x), module(x).data)


def test_each_fit_trains_a_copy_of_a_module() -> None:
    x, y = _data()
    y = _targets("multiclass", y)
    module = _small(5, 3, 0)
    before = [p.data.copy() for p in module.parameters()]
    net = NetClassifier(module, max_iter=2, random_state=0).fit(x.astype(np.float32), y)
    assert all(map(np.array_equal, before, [p.data for p in module.parameters()]))
    assert {p.dtype for p in net.module_.parameters()} == {np.dtype(np.float32)}
    assert not net.module_.training
    assert {*net.predict(x)} <= {"a", "b", "c"}
    np.testing.assert_allclose(net.predict_proba(x).sum(axis=1), 1, rtol=1e-6)
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(x), net.predict_proba(x))


def test_weights_of_samples_stand_for_repetitions() -> None:
    x, y = _data()
    labels = _targets("multiclass", y)
    twice = np.concatenate([x, x[:30]]), np.concatenate([labels, labels[:30]])
    weight = np.where(np.arange(len(x)) < 30, 2.0, 1.0)
    options: dict[str, Any] = {"batch_size": 1000, "max_iter": 5, "random_state": 0, "lr": 0.1}
    net = NetClassifier(_small(5, 3, 0), None, tg.optim.SGD, **options)
    expected = clone(net).fit(*twice)
    found = clone(net).fit(x, labels, sample_weight=weight)
    np.testing.assert_allclose(found.predict_proba(x), expected.predict_proba(x), rtol=1e-9)
    balanced = clone(net).set_params(class_weight="balanced").fit(x, labels)
    of_classes = compute_sample_weight("balanced", labels)
    same = clone(net).fit(x, labels, sample_weight=of_classes)
    np.testing.assert_allclose(balanced.predict_proba(x), same.predict_proba(x), rtol=1e-9)
    outputs = NetRegressor(_small(5, 3, 0), None, tg.optim.SGD, **options)
    pairs = np.concatenate([x, x[:30]]), np.concatenate([y, y[:30]])
    np.testing.assert_allclose(
        clone(outputs).fit(x, y, sample_weight=weight).predict(x),
        clone(outputs).fit(*pairs).predict(x),
        rtol=1e-9,
    )
    with pytest.raises(TypeError, match="reduction") as refused:
        clone(net).set_params(loss=lambda scores, y: tg.nn.cross_entropy(scores, y)).fit(
            x, labels, sample_weight=weight
        )
    assert "need a loss that takes reduction" in refused.value.__notes__[0]


def test_partial_fit_and_a_warm_start_go_on() -> None:
    x, y = _data()
    labels = _targets("multiclass", y)
    options: dict[str, Any] = {"batch_size": 40, "random_state": 3, "shuffle": False}
    whole = NetClassifier(_small(5, 3, 0), max_iter=4, **options).fit(x, labels)
    parts = NetClassifier(_small(5, 3, 0), **options)
    for _ in range(4):
        parts.partial_fit(x, labels, classes=["a", "b", "c"])
    np.testing.assert_allclose(parts.predict_proba(x), whole.predict_proba(x), rtol=1e-9)
    with pytest.raises(ValueError, match=r"y has the classes \['z'\], which are not among"):
        parts.partial_fit(x, np.full(len(x), "z"))
    warm = NetClassifier(_small(5, 3, 0), max_iter=2, warm_start=True, **options)
    warm.fit(x, labels).fit(x, labels)
    np.testing.assert_allclose(warm.predict_proba(x), whole.predict_proba(x), rtol=1e-9)
    numbers = NetRegressor(_small(5, 3, 0), **options).partial_fit(x, y).partial_fit(x, y)
    expected = NetRegressor(_small(5, 3, 0), max_iter=2, **options).fit(x, y)
    np.testing.assert_allclose(numbers.predict(x), expected.predict(x), rtol=1e-9)


def test_early_stopping_callbacks_and_sparse_samples() -> None:
    x, y = _data()
    labels = _targets("multiclass", y)
    seen: list[int] = []
    net = NetClassifier(
        max_iter=300, lr=0.05, early_stopping=3, random_state=0,
        callbacks=[lambda history: seen.append(len(history["loss"]))],
    )  # fmt: skip
    net.fit(x, labels)
    assert net.history_.stopped == "early stopping"
    assert len(net.history_["val_loss"]) == net.n_iter_ < 300
    assert seen == [*range(1, net.n_iter_ + 1)]
    log = net.predict_log_proba(x)
    np.testing.assert_allclose(np.exp(log), net.predict_proba(x), rtol=1e-9)
    sparse = clone(net).fit(csr_matrix(x), labels)
    np.testing.assert_array_equal(sparse.predict_proba(csr_matrix(x)), net.predict_proba(x))
    search = GridSearchCV(NetClassifier(max_iter=20, random_state=0), {"lr": [1e-6, 0.05]}, cv=2)
    assert search.fit(x, labels).best_params_ == {"lr": 0.05}


def test_wrong_modules_are_named() -> None:
    x, y = _data()
    with pytest.raises(
        ValueError, match=r"NetRegressor: module must be None, a tg\.nn\.Module, or"
    ):
        NetRegressor("mlp").fit(x, y)
    with pytest.raises(TypeError, match=r"module must return a tg\.nn\.Module, not a list"):
        NetRegressor(lambda *_: []).fit(x, y)
    with pytest.raises(
        ValueError, match=r"of shape \(1, 4\) for one sample, but .* shape \(1, 3\)"
    ):
        NetClassifier(_small(5, 4, 0)).fit(x, _targets("multiclass", y))
    with pytest.raises(
        ValueError, match="callbacks must be a list or tuple of functions, not None"
    ):
        NetRegressor(callbacks=None).fit(x, y)


def test_metrics_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    scores, classes = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)  # no sample of class 3
    scores[:, 0] -= 9  # which nobody is taken for
    found = np.argmax(scores, axis=1)
    training, average = tg.training, {"average": "macro", "zero_division": 0}
    expected = {
        training.accuracy: metrics.accuracy_score(classes, found),
        training.precision: metrics.precision_score(classes, found, **average),
        training.recall: metrics.recall_score(classes, found, **average),
        training.f1: metrics.f1_score(classes, found, **average),
        functools.partial(training.top_k_accuracy, k=2): metrics.top_k_accuracy_score(
            classes, scores, k=2, labels=range(4)
        ),
    }
    for metric, value in expected.items():
        assert metric(tg.Tensor(scores), classes) == pytest.approx(value)
    matrix = metrics.confusion_matrix(classes, found, labels=range(4))
    np.testing.assert_array_equal(training.confusion_matrix(scores, classes), matrix)
    y, close = rng.normal(size=(2, 50, 3)) + 1e6
    y[:, 2] = 1e6  # constant
    for prediction in (close, y):
        for part in (slice(None), (slice(None), 0)):
            pair = y[part], prediction[part]
            assert training.r2(*pair[::-1]) == pytest.approx(metrics.r2_score(*pair))
            assert training.mean_squared_error(*pair) == pytest.approx(
                metrics.mean_squared_error(*pair)
            )
            assert training.mean_absolute_error(*pair) == pytest.approx(
                metrics.mean_absolute_error(*pair)
            )
            assert training.root_mean_squared_error(*pair) == pytest.approx(
                np.sqrt(metrics.mean_squared_error(*pair))
            )


# -- inside of scikit-learn


def test_pipelines_and_permutation_importance() -> None:
    x, y = _data()
    model = make_pipeline(
        StandardScaler(), MLPRegressor("squared_error", (16,), solver="lbfgs", random_state=0)
    )
    model.fit(x, y[:, 0])
    assert model.score(x, y[:, 0]) > 0.9
    found = permutation_importance(model, x, y[:, 0], n_repeats=2, random_state=0).importances_mean
    assert {*np.argsort(found)[-2:]} == {0, 1}


@full_run_only
def test_searches_in_two_processes_and_calibration() -> None:
    x, y = load_digits(return_X_y=True)
    model = MLPClassifier((30,), max_iter=20, learning_rate_init=0.01, random_state=0)
    search = GridSearchCV(model, {"alpha": [1e-4, 100.0]}, n_jobs=2, cv=3).fit(x / 16, y)
    assert search.best_params_ == {"alpha": 1e-4}
    assert search.best_score_ > 0.9
    calibrated = CalibratedClassifierCV(model, cv=3).fit(x / 16, y)
    assert calibrated.score(x / 16, y) > 0.95
