"""What the page does in a real browser: sorting, one condition at a time, the atlas's filter, choosing a region."""

import json
import re

import cv2
import pytest
from records import full_run

from vice.evaluate.report.page import write_report

SCRIPT = """
const told = {};
const table = document.querySelector("table.sortable");
const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].textContent.trim().split(" ")[0]);
const heads = [...[...table.tHead.rows].at(-1).cells];
heads[2].querySelector("button").click();
told.sorted = column(2);
told.aria = heads[2].getAttribute("aria-sort");
heads[2].querySelector("button").click();
told.turned = column(2);
told.named = [...table.querySelectorAll(".again")].every((one) => getComputedStyle(one).display === "inline");

const block = [...document.querySelectorAll("[data-conditions]")].find((one) => one.querySelector(".switch"));
const visible = (root, what) => [...root.querySelectorAll(what)].filter((one) => !one.hidden);
const shown = () => visible(block, "[data-condition]").map((row) => row.dataset.condition);
told.first = shown();
[...block.querySelectorAll(".switch button")].at(-1).click();
told.second = shown();

const atlas = document.querySelector(".atlas-section");
const [order, filter] = atlas.querySelectorAll("select");
const numbers = () => visible(atlas, "li").map((card) => card.dataset.number);
told.byUsage = numbers();
order.value = "number";
order.dispatchEvent(new Event("change"));
told.byNumber = numbers();
filter.value = "Road";
filter.dispatchEvent(new Event("change"));
told.roads = numbers();

const [lookup] = globalThis.lookups;
lookup.ready.then(() => {
  const canvas = document.querySelector(".lookup canvas");
  const press = (share) => {
    const box = canvas.getBoundingClientRect();
    const place = { clientX: box.left + share * box.width, clientY: box.top + box.height / 2 };
    canvas.dispatchEvent(new MouseEvent("click", place));
    return [...document.querySelectorAll(".nearest li")].map((item) => `${item.title} ${item.textContent}`);
  };
  told.left = press(0.2);
  told.right = press(0.8);
  canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  told.walked = lookup.chosen;
  told.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const result = document.createElement("pre");
  result.id = "told";
  result.textContent = JSON.stringify(told);
  document.body.append(result);
});
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report([full_run(folder / "run")], folder / "report.html")


def test_the_page_does_what_it_says(page, browser):
    driven = page.with_name("driven.html")
    text = page.read_text(encoding="utf-8")
    driven.write_text(text.replace("</body>", f"<script>{SCRIPT}</script></body>"), encoding="utf-8")
    dom = browser(driven, "--dump-dom", "--window-size=390,900")
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', dom)[1].replace("&amp;", "&"))
    assert told["aria"] == "descending"
    values = [float(value) for value in told["sorted"]]
    assert values == sorted(values, reverse=True) and len(set(values)) > 2
    assert [float(value) for value in told["turned"]] == sorted(values)
    assert told["named"]
    assert told["first"] == ["clean"] * 2 and told["second"] == ["changed light"] * 2
    assert (told["byUsage"], told["byNumber"], told["roads"]) == (["1", "0"], ["0", "1"], ["0"])
    assert told["left"] == ["green Road, 0.91", "red Car, 0.20"]
    assert told["right"] == ["red Car, 0.82", "green Road, 0.10"]
    assert told["walked"] == 0
    assert told["wide"] <= 0, "the page is wider than a phone"


def test_light_and_dark_are_different_pages_that_draw_something(page, browser, tmp_path):
    colours = []
    for name, words in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        browser(page, f"--screenshot={tmp_path / name}.png", "--window-size=1200,900", *words)
        pixels = _pixels(tmp_path / f"{name}.png")
        assert len({pixels[at : at + 3] for at in range(0, len(pixels) - 3, 3)}) > 20
        colours.append(pixels[:3])
    assert sum(colours[0]) > 600 > 200 > sum(colours[1])


def _pixels(path) -> bytes:
    return cv2.imread(str(path)).tobytes()
