"""The playground: settings, training, program, server, and the page in a real browser."""

import contextlib
import dataclasses
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from tensorgrad.__main__ import main
from tensorgrad.playground import server as serving
from tensorgrad.playground.program import program
from tensorgrad.playground.settings import (
    ACTIVATIONS,
    DATA,
    FEATURES,
    LOSSES,
    OPTIMIZERS,
    PENALTIES,
    Settings,
    SettingsError,
)
from tensorgrad.playground.training import SIDE, SMALL, Training

from .depth import one_in

POINTS = [[0.5, 1.0, 1], [-1.0, 0.0, 0], [1.0, 1.5, 1], [2.0, 0.0, 0]]


# -- settings


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], "settings: an object with a value for each name"),
        ({"colour": 1}, "'colour': there is no such setting"),
        ({"data": "faces"}, "data: 'faces' is none of moons, circles"),
        ({"data": []}, r"data: \[\] is none of"),
        ({"batch": 2.5}, "batch: 2.5 is not a whole number from 1 to 100"),
        ({"batch": True}, "batch: True is not a whole number"),
        ({"rate": float("nan")}, "rate: nan is not a number from"),
        ({"rate": "0.1"}, "rate: '0.1' is not a number"),
        ({"layers": [9]}, "layers: 9 is not a whole number from 1 to 8"),
        ({"layers": [1] * 7}, "layers: a list of 0 to 6 items"),
        ({"features": []}, "features: a list of 1 to 7 items"),
        ({"points": [[0, 0]]}, r"points: a point is two coordinates and a class, not \[0, 0\]"),
        ({"points": [[0, 4, 1]]}, "points: 4 is not a number from -3.0 to 3.0"),
        ({"seed": 10**400}, "seed: 1000.*… is not a whole number"),
    ],
)
def test_settings_out_of_range_are_named(chosen: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.read(chosen)


def test_settings_go_through_json() -> None:
    settings = Settings.read({"points": POINTS, "layers": [], "features": ["x1 x2"]})
    assert Settings.read(json.loads(json.dumps(settings.as_dict()))) == settings


# -- training and program


def variants() -> Iterator[Settings]:
    for name in DATA:
        yield Settings.read({"data": name, "points": POINTS})
    for field, choices in [
        ("activation", ACTIVATIONS), ("loss", LOSSES), ("optimizer", OPTIMIZERS),
        ("penalty", PENALTIES),
    ]:  # fmt: skip
        yield from (Settings.read({field: choice, "strength": 0.01}) for choice in choices)
    yield from (Settings.read({"features": [feature]}) for feature in FEATURES)
    yield Settings.read({"layers": []})
    yield Settings.read({"layers": [8] * 6, "features": [*FEATURES], "share": 90, "batch": 7})


@pytest.mark.parametrize("settings", one_in(12, [*variants()]), ids=str)
def test_the_program_prints_the_losses_of_the_page(settings: Settings) -> None:
    training = Training(settings)
    training.advance(30)
    training.advance(11)
    command = [sys.executable, "-W", "error", "-c", program(settings, 41)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    printed = [float(word) for word in result.stdout.split(":")[1].split()]
    assert printed == training.frame()["losses"]


def test_a_frame_shows_outputs_weights_and_gradients() -> None:
    training = Training(Settings.read({"layers": [3, 2], "features": ["x1", "x2", "sin x1"]}))
    before = training.frame()
    assert (before["steps"], before["microseconds"]) == (0, 0)
    training.advance(5)
    frame = json.loads(json.dumps(training.frame(), allow_nan=False))
    assert frame["steps"] == 5
    assert frame["epochs"] == 0
    assert frame["microseconds"] > 0
    assert [*map(len, frame["neurons"])] == [3, 3, 2, 1]
    assert len(frame["output"]) == -(-SIDE * SIDE // 3) * 4
    assert all(len(p) == -(-SMALL * SMALL // 3) * 4 for layer in frame["neurons"] for p in layer)
    assert frame["layers"][0]["weight"] != before["layers"][0]["weight"]
    assert np.shape(frame["layers"][1]["weight_grad"]) == (2, 3)
    assert np.any(frame["layers"][1]["weight_grad"])


def test_a_training_that_diverges_can_be_sent() -> None:
    training = Training(Settings.read({"rate": 10, "optimizer": "momentum", "loss": "squared",
                                       "activation": "linear"}))  # fmt: skip
    training.advance(400)
    frame = training.frame()
    assert frame["losses"] == [None, None]
    json.dumps(frame, allow_nan=False)


def test_own_points_may_be_missing() -> None:
    training = Training(Settings.read({"data": "own points"}))
    training.advance(1)
    assert training.frame()["losses"] == []


# -- sessions

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
MESSAGES = JSON | st.fixed_dictionaries(
    {"do": st.sampled_from(["play", "pause", "step", "speed", "reset", "code"])},
    optional={
        "steps": JSON,
        "settings": JSON
        | st.dictionaries(
            st.sampled_from([field.name for field in dataclasses.fields(Settings)]), JSON
        ),
    },
)


@given(MESSAGES)
@hypothesis_settings(deadline=None)
def test_a_message_is_answered_or_refused_and_then_changes_nothing(message: Any) -> None:
    session = SESSION
    before = session.training, session.runs, session.speed, session.training.steps
    (reply,) = serving._answers(session, json.dumps(message))[-1:]
    json.dumps(reply, allow_nan=False)
    if reply["type"] == "error":
        assert reply["text"]
        after = session.training, session.runs, session.speed, session.training.steps
        assert after == before


SESSION = serving.Session()


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, b"\xff", '{"do": "fly"}', "1"])
def test_what_is_no_message_is_refused(text: str | bytes) -> None:
    (reply,) = serving._answers(SESSION, text)
    assert reply["type"] == "error"


# -- the server


@pytest.fixture(scope="module")
def server() -> Iterator[serving.Server]:
    pytest.importorskip("websockets")
    running = serving.Server()
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    yield running
    running.close()
    thread.join(10)


def get(server: serving.Server, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={k.capitalize(): v for k, v in headers.items()})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def opened(server: serving.Server, origin: str | None = "") -> Any:
    client = pytest.importorskip("websockets.sync.client")
    origin = f"http://127.0.0.1:{server.port}" if origin == "" else origin
    return client.connect(f"ws://127.0.0.1:{server.port}/training", origin=origin)


def test_the_page_is_served_to_this_machine_alone(server: serving.Server) -> None:
    status, page = get(server, "/")
    assert status == 200
    assert "<title>tensorgrad playground</title>" in page
    for path in "/style.css", "/script.js", "/favicon.ico", "/?query":
        assert get(server, path)[0] == 200
    assert "//" not in page.replace("<!doctype", "").replace("http://www.w3.org", "")  # no network
    assert server._server.socket.getsockname()[0] == "127.0.0.1"


def test_bad_requests_get_a_clear_refusal(server: serving.Server) -> None:
    port = server.port
    assert get(server, "/../server.py") == (404, "the page is at /\n")
    foreign = f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"a@localhost:{port}"
    for host in foreign:
        status, text = get(server, "/", host=host)
        assert (status, text) == (403, f"this server is reached at {server.url} alone\n")
    assert get(server, "/", host=f"localhost:{port}")[0] == 200
    assert get(server, "/", method="POST")[0] == 405
    assert get(server, "/training")[0] == 403  # without an origin
    assert get(server, "/training", origin=f"http://127.0.0.1:{port}")[0] == 426


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None, "https://127.0.0.1"])
def test_a_foreign_page_cannot_start_a_training(server: serving.Server, origin: Any) -> None:
    exceptions = pytest.importorskip("websockets.exceptions")
    with pytest.raises(exceptions.InvalidStatus) as refused:
        opened(server, origin)
    assert refused.value.response.status_code == 403


@given(
    st.binary(max_size=200) | st.text(max_size=60).map(lambda p: f"GET /{p} HTTP/1.1\n\n".encode())
)
@hypothesis_settings(deadline=None, max_examples=30)
def test_random_bytes_get_no_server_error(sent: bytes) -> None:
    running = SERVER.get("server")
    if running is None:
        pytest.skip("needs websockets")
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert not answer or answer.split()[1].startswith(b"4"), answer
    assert get(running, "/")[0] == 200


SERVER: dict[str, serving.Server] = {}


@pytest.fixture(autouse=True)
def known_server(request: pytest.FixtureRequest) -> None:
    if request.node.originalname == "test_random_bytes_get_no_server_error":
        SERVER["server"] = request.getfixturevalue("server")


def received(connection: Any, kind: str) -> Any:
    while True:
        message = json.loads(connection.recv(timeout=20))
        if message["type"] == kind:
            return message


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def test_a_session_trains_pauses_steps_and_starts_again(server: serving.Server) -> None:
    with opened(server) as connection:
        assert received(connection, "points")["settings"]["data"] == "moons"
        first = received(connection, "frame")
        assert first["steps"] == 0
        for message in {"do": "speed", "steps": 20}, {"do": "play"}:
            connection.send(json.dumps(message))
        frames = [received(connection, "frame") for _ in range(60)]
        assert frames[-1]["steps"] >= 900
        assert frames[-1]["losses"][0] < first["losses"][0] / 2
        assert frames[-1]["output"] != first["output"]
        connection.send(json.dumps({"do": "pause"}))
        until(lambda: not received(connection, "frame")["runs"])
        connection.send(json.dumps({"do": "step"}))
        steps = received(connection, "frame")["steps"]
        connection.send(json.dumps({"do": "step"}))
        assert received(connection, "frame")["steps"] == steps + 1
        connection.send('{"do": "reset", "settings": {"data": "faces"}}')
        assert "'faces' is none of" in received(connection, "error")["text"]
        connection.send(json.dumps({"do": "step"}))
        assert received(connection, "frame")["steps"] == steps + 2  # nothing was lost
        connection.send(json.dumps({"do": "reset", "settings": {"data": "circles"}}))
        assert received(connection, "points")["settings"]["data"] == "circles"
        assert received(connection, "frame")["steps"] == 0
        connection.send(json.dumps({"do": "reset", "settings": {}, "steps": 37}))
        begun = received(connection, "frame")
        training = Training(Settings())
        training.advance(37)
        assert (begun["steps"], begun["losses"]) == (37, training.frame()["losses"])


def test_sessions_are_few_and_end_with_their_pages(server: serving.Server) -> None:
    exceptions = pytest.importorskip("websockets.exceptions")
    until(lambda: server._free._value == serving.MOST_SESSIONS)
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(opened(server)) for _ in range(serving.MOST_SESSIONS)]
        for page in pages:
            received(page, "frame")
        extra = stack.enter_context(opened(server))
        with pytest.raises(exceptions.ConnectionClosed, match="8 pages are open"):
            extra.recv(timeout=20)
        pages[0].send(json.dumps({"do": "play"}))
        received(pages[0], "frame")
    until(lambda: server._free._value == serving.MOST_SESSIONS)
    with opened(server) as again:
        received(again, "frame")


def test_a_message_that_is_too_long_ends_its_session_alone(server: serving.Server) -> None:
    exceptions = pytest.importorskip("websockets.exceptions")
    with opened(server) as connection:
        received(connection, "frame")
        connection.send("x" * (serving.LONGEST + 1))
        with pytest.raises(exceptions.ConnectionClosed):
            received(connection, "frame")
    assert get(server, "/")[0] == 200


def test_a_taken_port_and_a_missing_library_are_named(
    monkeypatch: pytest.MonkeyPatch, server: serving.Server
) -> None:
    with pytest.raises(SystemExit, match=r"error: .*in use"):
        main(["playground", "--no-browser", "--port", str(server.port)])
    with pytest.raises(SystemExit, match="2"):
        main(["playground", "--no-browser", "--port", "99999"])
    monkeypatch.setitem(sys.modules, "websockets.sync.server", None)
    with pytest.raises(SystemExit, match=r"playground needs websockets: python -m pip install"):
        main(["playground", "--no-browser"])


# -- the page


NOTHING = "\N{EN DASH}"  # stands for a number that is not known


def text(browser: Any, name: str) -> str:
    return str(browser.find_element("id", name).text)


def number(browser: Any, name: str) -> float:
    return float(text(browser, name).replace(",", "").split()[0].replace(NOTHING, "nan"))


def opened_page(browser: Any, server: serving.Server, state: str = "") -> None:
    browser.get("about:blank")
    browser.get(f"{server.url}{state}")
    until(lambda: text(browser, "train-loss") != NOTHING)


def errors_of(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def picture(browser: Any) -> bytes:
    return bytes(browser.find_element("id", "output").screenshot_as_png)


def test_the_page_trains_with_the_keyboard_alone(browser: Any, server: serving.Server) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    actions = pytest.importorskip("selenium.webdriver").ActionChains
    opened_page(browser, server)
    before, loss = picture(browser), number(browser, "train-loss")

    def focus(name: str) -> Any:
        for _ in range(60):
            actions(browser).send_keys(keys.TAB).perform()
            found = browser.switch_to.active_element
            if name in (found.get_attribute("id"), found.get_attribute("name")):
                return found
        raise AssertionError(f"Tab does not reach {name}")

    focus("play").send_keys(keys.ENTER)
    until(lambda: number(browser, "train-loss") < 0.7 * loss)
    assert browser.switch_to.active_element.text == "Pause"
    browser.switch_to.active_element.send_keys(keys.SPACE)
    until(lambda: text(browser, "play") == "Train")
    assert picture(browser) != before
    steps = number(browser, "steps")
    focus("step").send_keys(keys.ENTER)
    until(lambda: number(browser, "steps") == steps + 1)
    focus("data").send_keys("circles")
    until(lambda: "circles" in browser.current_url)
    canvas = focus("output")
    canvas.send_keys(keys.ARROW_UP, keys.ARROW_UP, keys.ENTER)
    until(lambda: "points=%5B%5B0%2C0.2%2C1%5D%5D" in browser.current_url)
    focus("show-code").send_keys(keys.ENTER)
    until(lambda: "tg.data.circles" in text(browser, "code"))
    assert "[[0.0, 0.2, 1]]" in text(browser, "code")
    assert errors_of(browser) == []


def test_the_url_holds_the_settings_and_bad_ones_are_named(
    browser: Any, server: serving.Server
) -> None:
    opened_page(browser, server, '#data="spirals"&layers=[8,8,8]&features=["sin x1","sin x2"]')
    form = browser.find_element("id", "settings")
    until(lambda: form.find_element("name", "data").get_attribute("value") == "spirals")
    assert form.find_element("name", "layers").get_attribute("value") == "8, 8, 8"
    assert len(browser.find_elements("css selector", ".neuron")) == 2 + 24 + 1
    rate = form.find_element("name", "rate")
    keys = pytest.importorskip("selenium.webdriver").Keys
    rate.send_keys(keys.CONTROL, "a", keys.NULL, "99", keys.TAB)
    browser.find_element("id", "play").click()
    until(lambda: "rate: 99 is not a number from" in text(browser, "message"))
    until(lambda: number(browser, "steps") > 20)
    assert "rate: 99 is not" in text(browser, "message")  # frames leave it there
    assert rate.get_attribute("value") == "0.01"
    browser.find_element("id", "play").click()
    until(lambda: text(browser, "play") == "Train")
    until(lambda: f"steps={number(browser, 'steps'):.0f}&" in browser.current_url)
    choice = pytest.importorskip("selenium.webdriver.support.select").Select
    choice(form.find_element("name", "data")).select_by_visible_text("own points")
    until(lambda: "no points: click into the output" in text(browser, "message"))
    choice(form.find_element("name", "data")).select_by_visible_text("hills")
    until(lambda: "hills" in browser.current_url)
    browser.find_element("id", "output").click()
    until(lambda: "has numbers, not classes" in text(browser, "message"))


def test_a_neuron_and_gradients_are_shown(browser: Any, server: serving.Server) -> None:
    opened_page(browser, server)
    browser.find_element("id", "step").click()
    until(lambda: number(browser, "steps") >= 1)
    before = picture(browser)
    browser.find_element("css selector", '[data-at="1,2"]').click()
    until(lambda: text(browser, "output-title") == "Output of neuron 3, layer 1")
    assert picture(browser) != before
    paths = "[...document.querySelectorAll('#links path')]"
    widths = f"return {paths}.map(p => p.getAttribute('stroke-width'))"
    weights = browser.execute_script(widths)
    assert len(weights) == 2 * 6 + 6 * 4 + 4
    browser.find_element("id", "lines").send_keys("gradients")
    until(lambda: browser.execute_script(widths) != weights)


def test_the_page_is_updated_thirty_times_a_second(browser: Any, server: serving.Server) -> None:
    opened_page(browser, server)
    browser.execute_script(
        "window.count = 0; const old = receive; receive = (m) => { count += 1; old(m); };"
    )
    browser.find_element("id", "play").click()
    until(lambda: browser.execute_script("return window.count") >= 30, 4)  # 30 a second, if idle


@pytest.mark.parametrize("width", [1280, 400])
def test_an_accessibility_checker_finds_nothing_serious(
    browser: Any, server: serving.Server, width: int
) -> None:
    axe = pytest.importorskip("axe_selenium_python").Axe
    browser.set_window_size(width, 900)
    opened_page(browser, server)
    browser.find_element("id", "show-code").click()
    checker = axe(browser)
    checker.inject()
    found = checker.run()["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    too_wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not browser.execute_script(too_wide)
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(io.BytesIO(browser.get_screenshot_as_png()))
    assert np.ptp(pixels) > 0.5
    browser.set_window_size(1280, 900)
