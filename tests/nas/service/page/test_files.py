"""What the page is made of: files with their types, kept by browsers that have them."""

from __future__ import annotations

import re

from nas.service.api.page import asset_names


def test_the_page_and_its_files_are_served_with_their_types(client):
    served = {name: client.get(f"/assets/{name}") for name in asset_names()} | {
        "/": client.get("/")
    }
    assert {"plotly.min.js", "app.js", "style.css", "mark.svg"} < set(served)
    for name, answer in served.items():
        assert answer.status_code == 200
        kind = "html" if name == "/" else {"js": "javascript"}.get(*2 * [name.split(".")[-1]])
        assert kind in answer.headers["content-type"] or "svg" in answer.headers["content-type"]
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe-eval" not in policy
    linked = re.findall(r'(?:src|href)="(/assets/[^"]+)"', served["/"].text)
    assert all(client.get(path).status_code == 200 for path in linked)
    assert client.get("/assets/..%2Fapi%2Fapp.py").status_code == 404
    assert client.get("/assets/index.html").status_code == 404


def test_a_browser_that_has_a_file_is_told_so(client):
    first = client.get("/assets/plotly.min.js", headers={"Accept-Encoding": "gzip"})
    assert first.headers["content-encoding"] == "gzip"
    assert int(first.headers["content-length"]) < len(first.content) / 3
    again = client.get("/assets/plotly.min.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for refusing in ("identity", "gzip;q=0"):
        plain = client.get("/assets/app.js", headers={"Accept-Encoding": refusing})
        assert "content-encoding" not in plain.headers
    assert client.get("/assets/app.js", headers={"If-None-Match": '"other"'}).text == plain.text
