"""How hard hypothesis tries: `--hypothesis-profile=thorough` for a long search; and fixtures."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON, max_examples=8)
settings.register_profile("ci", _COMMON, max_examples=30, derandomize=True, print_blob=True)
settings.register_profile("thorough", _COMMON, max_examples=1000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Nothing is measured to choose calls by: so programs are always the same.
os.environ["TENSORGRAD_TUNE"] = "0"

# A job that a script starts in the background ignores Ctrl-C, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def numpy_program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that look at NumPy's programs get these, whatever the environment says."""
    if request.node.get_closest_marker("numpy_program"):
        monkeypatch.setenv("TENSORGRAD_BACKEND", "numpy")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """References alone free what is no longer used."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, where it, its driver and selenium are installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900":
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = pytest.importorskip("selenium.webdriver.chrome.service").Service(driver)
    page = webdriver.Chrome(options=options, service=service)
    yield page
    page.quit()
