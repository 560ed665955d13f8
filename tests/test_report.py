"""The report: one page without a network, its numbers, and what a browser does."""

from __future__ import annotations

import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import symgrad as sg
from symgrad.show import mathml
from symgrad.show.descents import Landscape, component_names, kind_of

X = np.linspace(-1, 2, 30)
LINE = {"a": 0.0, "b": 0.0, "x": X, "y": 2 * X - 1}
LESSON = {"a": 2.0, "b": -3.0, "c": 10.0, "f": -2.0}


@pytest.fixture(scope="module")
def line():
    f = sg.compile("mean((y - (a*x + b))**2)", wrt=["a", "b"])
    return f, sg.report(f, **LINE)


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


# --- the page -------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page, and the names of those that were closed wrongly."""

    VOID = ("meta", "link", "input", "br", "hr", "img")

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.wrong = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_needs_nothing_else(line):
    page = line[1].html
    elements = Elements(page)
    assert not elements.wrong
    assert not elements.open
    for _, attributes in elements.found:
        for key in ("src", "href"):
            target = attributes.get(key) or "#"
            assert target.startswith(("#", "data:"))
    assert "@import" not in page
    assert "url(http" not in page
    assert "{{" not in page.replace("{{{", "")


def test_the_page_is_accessible(line):
    elements = Elements(line[1].html)
    ids = {a["id"] for _, a in elements.found if "id" in a}
    for tag, attributes in elements.found:
        if tag == "input":
            assert any(
                t == "label" and a.get("for") == attributes["id"]
                for t, a in elements.found
            )
        if attributes.get("aria-labelledby"):
            assert attributes["aria-labelledby"] in ids
        if tag == "a" and attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_the_numbers_are_the_compilers(line):
    f, report = line
    data = data_of(report.html)
    value, gradients = f.value_and_grad(**LINE)
    steps = {s["name"]: s for s in data["steps"]}
    assert float(steps["L"]["value"]) == pytest.approx(value, rel=1e-5)
    for name in "ab":
        shown = float(steps[name]["adjoint"])
        assert shown == pytest.approx(float(gradients[name]), rel=1e-5)
    for curve in data["curves"]:
        assert curve["slope"] == pytest.approx(
            float(gradients[curve["name"]]), rel=1e-6
        )


def test_the_descents_are_real(line):
    f, report = line
    data = data_of(report.html)
    assert 12 <= len(data["runs"]) <= 20
    for run in data["runs"][::5]:
        init = {"a": 0.0, "b": 0.0}
        given = {"x": LINE["x"], "y": LINE["y"]}
        steps = len(run["losses"]) - 1
        real = sg.minimize(f, init, given, method="gd", lr=run["lr"], steps=steps)
        known = [(a, b) for a, b in zip(run["losses"], real.history, strict=False)
                 if a is not None]  # fmt: skip
        np.testing.assert_allclose(*zip(*known, strict=True), rtol=1e-5, atol=1e-12)
    kinds = {r["kind"] for r in data["runs"]}
    assert {"slow", "converging", "diverging"} <= kinds
    assert data["runs"][data["start"]]["losses"][-1] < 1e-6


def test_each_update_follows_the_gradient(line):
    f, report = line
    data = data_of(report.html)
    run = data["runs"][data["start"]]
    for k in (0, 1, 5):
        a, b = run["points"][k]
        gradients = f.grad(**{**LINE, "a": a, "b": b})
        exact = [float(gradients["a"]), float(gradients["b"])]
        np.testing.assert_allclose(run["gradients"][k], exact, rtol=1e-4, atol=1e-6)


def test_backward_rules_are_told():
    f = sg.compile("e = a*b\nd = e + c\nd*f", wrt=list("abcf"))
    data = data_of(sg.report(f, **LESSON).html)
    steps = {s["name"]: s for s in data["steps"]}
    (term,) = steps["a"]["terms"]
    assert term["formula"] == "∂L/∂e · b"
    assert term["rule"] == "∂e/∂a = b"
    assert float(term["number"]) == 6
    assert steps["e"]["numbers"] == "2·(-3) = -6"


def test_formulas_before_and_after_and_the_kernel(line):
    page = line[1].html
    assert page.count("<h4>before</h4>") == 2
    assert "over the data" in page
    assert "numba" in page
    assert "<math" in page


def test_a_deep_loss_has_a_report():
    text = "\n".join(["h = x", *["h = sin(h*a)"] * 150, "h**2"])
    page = sg.report(sg.compile(text, wrt=["a"]), a=1.0, x=0.5).html
    assert "times:" in page


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("log(a)", {"a": -1.0}),
        ("a", {"a": 1.0}),
        ("sum(x)*0 + 1", {"x": np.zeros(0)}),
        ("sum(abs(x))/a", {"a": 0.0, "x": np.ones((3, 4, 2))}),
        ("a*b", {"a": 0.0, "b": 0.0}),
    ],
)
def test_odd_losses_have_a_report(text, values):
    report = sg.report(sg.compile(text, wrt=[next(iter(values))]), **values)
    assert "NaN" not in json.dumps(data_of(report.html)["steps"])


def test_texts_cannot_break_out_of_the_page():
    f = sg.compile("sum(where(x < 1, x, 2))  # </script><b>", wrt=["x"])
    page = sg.report(f, x=np.ones(2)).html
    assert "</script><b>" not in page
    assert page.count("</script>") == 2


# --- parts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "kind"),
    [
        ([1.0, 0.99, 0.98, 0.97], "slow"),
        ([1.0, 0.1, 0.01, 0.001], "converging"),
        ([1.0, 0.5, 0.9, 0.4, 0.8, 0.3], "oscillating"),
        ([1.0, 10.0, 100.0], "diverging"),
        ([1.0, np.nan], "diverging"),
        ([-1.0, -1.1, -1.3, -2.0, -90.0, -9000.0], "unbounded"),
    ],
)
def test_kinds_of_descents(losses, kind):
    assert kind_of(losses) == kind


def test_component_names():
    assert component_names({"a": (), "w": (2, 2)}, 4) == [
        "a", "w[0, 0]", "w[0, 1]", "w[1, 0]",
    ]  # fmt: skip


def test_curvature_is_the_largest_eigenvalue():
    f = sg.compile("3*a**2 + 0.5*b**2", wrt=["a", "b"])
    land = Landscape(f, {"a": 1.0, "b": 1.0})
    assert land.curvature() == pytest.approx(6, rel=1e-3)


def math_text(text, wrt, **values):
    f = sg.compile(text, wrt=wrt)
    f.specialize(**values)
    page = mathml.graph_formula("L", f._latest().built.value.body)
    return re.sub(r"<[^>]*>", "", page)


def test_typeset_formulas_keep_their_brackets():
    one = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert math_text("a - (b - c)", ["a"], **one) == "L=a−(b−c)"
    assert math_text("a - (b + c)", ["a"], **one) == "L=a−(b+c)"
    assert math_text("a*(b + c)", ["a"], **one) == "L=a·(b+c)"
    assert math_text("(a + b)*c", ["a"], **one) == "L=(a+b)·c"
    assert math_text("(a*b)**3", ["a"], a=1.0, b=1.0) == "L=(a·b)3"
    assert math_text("(-a)**2", ["a"], a=1.0) == "L=(−a)2"


def test_long_formulas_are_text():
    text = " + ".join(f"a*x**{k}.5" for k in range(200))
    f = sg.compile(text, wrt=["a"])
    f.specialize(a=1.0, x=2.0)
    assert "<code>" in mathml.graph_formula("L", f._latest().built.value.body)


# --- in a browser ---------------------------------------------------------------------


def find_browser():
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if shutil.which(name):
            return shutil.which(name)
    return None


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium by Selenium; the tests that use it are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, chauffeur = find_browser(), shutil.which("chromedriver")
    if program is None or chauffeur is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new", "--disable-gpu", "--window-size=1200,900",
        f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    if sys.platform == "linux":
        options.add_argument("--no-sandbox")  # as root there is no other way
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    from selenium.webdriver.chrome.service import Service

    driver = webdriver.Chrome(options=options, service=Service(chauffeur))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, line, tmp_path):
    path = tmp_path / "report.html"
    line[1].save(path)
    browser.get(path.as_uri())
    yield browser
    errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert errors == []


def at(page, player):
    root = page.find_element("css selector", f"[data-player={player}]")
    return int(root.get_attribute("data-at"))


@pytest.mark.parametrize("player", ["forward", "backward"])
def test_steps_advance(page, player):
    root = page.find_element("css selector", f"[data-player={player}]")
    panel = root.find_element("css selector", ".panel")
    seen = [panel.text]
    button = root.find_element("css selector", "[aria-label='Next step']")
    while button.is_enabled():
        button.click()
        seen.append(panel.text)
    assert len(set(seen)) == len(seen) == 9
    root.find_element("css selector", "[aria-label='Step back']").click()
    assert at(page, player) == 7


def test_keys_move_the_steps(page):
    from selenium.webdriver.common.keys import Keys

    graph = page.find_element("css selector", "[data-player=backward] .graph")
    graph.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert at(page, "backward") == 1
    graph.send_keys(Keys.END)
    assert at(page, "backward") == 8
    graph.send_keys(Keys.HOME)
    assert at(page, "backward") == 0


def test_values_appear_as_they_are_computed(page):
    root = page.find_element("css selector", "[data-player=forward]")
    assert len(root.find_elements("css selector", ".sg-card.todo")) == 8
    root.find_element("css selector", "[aria-label='Last step']").click()
    assert not root.find_elements("css selector", ".sg-card.todo")


def test_the_slider_changes_the_curve(page):
    from selenium.webdriver.common.keys import Keys

    def state():
        path = page.find_element("css selector", "#losses .main").get_attribute("d")
        return path, page.find_element("id", "rate-value").text

    slider = page.find_element("id", "rate")
    before = state()
    slider.send_keys(Keys.HOME)
    small = state()
    slider.send_keys(Keys.END)
    large = state()
    assert len({before, small, large}) == 3
    assert "too small" in small[1]
    assert "too large" in large[1]
    assert page.find_element("id", "advice").text


def test_the_step_slider_moves_the_point(page):
    from selenium.webdriver.common.keys import Keys

    slider = page.find_element("id", "step")
    slider.send_keys(Keys.HOME)
    first = page.find_element("css selector", "#moves tr td").text
    slider.send_keys(Keys.ARROW_RIGHT)
    assert page.find_element("css selector", "#moves tr td").text != first


@pytest.mark.parametrize("width", [360, 1200])
def test_no_sideways_scrolling_and_no_clipped_text(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    widest = page.execute_script("return document.documentElement.scrollWidth")
    assert widest <= width
    outside = page.execute_script("""
        return [...document.querySelectorAll("g.sg-card")].flatMap((card) => {
          const r = card.querySelector("rect").getBBox();
          return [...card.querySelectorAll("text")].filter((t) => {
            const b = t.getBBox();
            return b.x < r.x || b.x + b.width > r.x + r.width;
          }).map((t) => t.textContent);
        });""")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert outside == []


def test_dark_colours_in_the_dark(page):
    def background():
        return page.execute_script(
            "return getComputedStyle(document.body).backgroundColor"
        )

    def prefer(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    prefer("light")
    light = background()
    prefer("dark")
    dark = background()
    prefer("")
    assert light == "rgb(255, 255, 255)"
    assert dark != light
