"""The page for all eyes: on a phone, to a screen reader, by day and by night."""

from __future__ import annotations

import re

from tests.nas.service.browsing import browsing

PHONE = {"width": 360, "height": 740}


@browsing
def test_every_view_fits_a_phone_has_labels_and_is_readable_by_day_and_night(served, open_page):
    done = served.done["id"]
    views = {
        "#/new": "form.start",
        "#/searches": ".list table",
        f"#/searches/{done}": ".answer .facts",
        f"#/compare?model={done}.0&model={done}.1": ".plot .main-svg",
        "#/devices": ".snippet",
        "#/uploads": "h2",
    }
    page = open_page(served.url, viewport=PHONE, has_touch=True)
    for view, there in views.items():
        page.emulate_media(color_scheme="light")  # before plots are drawn, which follow it later
        page.goto(f"{served.url}/{view}")
        page.locator(there).first.wait_for()
        page.wait_for_function(DRAWN)
        page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{view} is {width} px wide"
        assert page.evaluate(UNNAMED) == [], view
        grounds, others = [], []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(TOO_FAINT) == [], (view, scheme)
            grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.wait_for_function(REDRAWN, arg=others)
            others = page.evaluate(INKS)
        light, dark = (sum(map(int, re.findall(r"\d+", ground))) for ground in grounds)
        assert dark < 150 < 600 < light


DRAWN = """() => [...document.querySelectorAll('.plot')]
  .every(one => one.querySelector('.xtick text'))"""
"""Whether no plot is still to come."""


INKS = "[...document.querySelectorAll('.xtick text')].map(one => getComputedStyle(one).fill)"
"""The colours of the plots' ticks."""


REDRAWN = f"others => {INKS}.every((ink, at) => ink !== others[at])"
"""Whether all ticks have other colours than before; plots follow a scheme a frame later."""


UNNAMED = """() => {
  const name = node => node.labels?.length || node.getAttribute('aria-label')
    || node.getAttribute('aria-labelledby');
  const inputs = [...document.querySelectorAll('input, select, textarea, progress')]
    .filter(node => !name(node));
  const silent = [...document.querySelectorAll('button, a')].filter(node =>
    !node.textContent.trim() && !node.getAttribute('aria-label'));
  const images = [...document.querySelectorAll('img')].filter(node => !node.hasAttribute('alt'));
  const ids = [...document.querySelectorAll('[id]')].map(node => node.id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  const headings = document.querySelectorAll('h1').length === 1 ? [] : ['one h1 is wanted'];
  return [...inputs, ...silent, ...images].map(node => node.outerHTML).concat(twice, headings);
}"""
"""What a screen reader could not name, and ids or titles that are not unique."""


TOO_FAINT = """() => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {rgb: [r, g, b], a};
  };
  const over = (top, below) => top.rgb.map((v, i) => v * top.a + below[i] * (1 - top.a));
  const ground = node => {
    if (!node) return [255, 255, 255];
    const own = parse(getComputedStyle(node).backgroundColor);
    return own.a === 1 ? own.rgb : over(own, ground(node.parentElement));
  };
  const light = rgb => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('svg, noscript, script')) continue;
    if (!node.checkVisibility() || node.closest(':disabled')) continue;
    const style = getComputedStyle(node), below = ground(node);
    const [a, b] = [light(over(parse(style.color), below)), light(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < needed) found.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim()}`);
  }
  return found;
}"""
"""Texts whose contrast is below WCAG 2.2's AA (1.4.3)."""
