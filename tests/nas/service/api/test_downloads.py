"""Files of a finished search, as tools that download ask for them."""

from __future__ import annotations

import pytest

from tests.nas.service.seeded import finished_search


@pytest.fixture
def place(client, service):
    """The URL of a finished search's model."""
    return f"/v1/searches/{finished_search(service)['id']}/models/0"


@pytest.mark.parametrize("name", ["archive", "report.json", "report.html"])
def test_a_file_is_probed_before_it_is_fetched(client, place, name):
    whole, probed = client.get(f"{place}/{name}"), client.head(f"{place}/{name}")
    assert (probed.status_code, probed.content) == (200, b"")
    for header in ("content-length", "content-type", "etag"):
        assert probed.headers[header] == whole.headers[header]
    assert int(probed.headers["content-length"]) == len(whole.content)
    assert client.head(f"/v1/searches/0000000000000000/models/0/{name}").status_code == 404


@pytest.mark.parametrize("named", ["{}", "W/{}", '"another", {}', "*"])
def test_an_archive_that_is_there_is_not_sent_again(client, place, named):
    tag = client.head(f"{place}/archive").headers["etag"]
    answer = client.get(f"{place}/archive", headers={"If-None-Match": named.format(tag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    other = client.get(f"{place}/archive", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize(("asked", "status"), [("bytes=999999999-", 416), ("bytes=9-2", 400)])
def test_a_range_that_a_file_has_not_is_a_problem(client, place, asked, status):
    answer = client.get(f"{place}/archive", headers={"Range": asked})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("Range must be bytes=")
    size = client.head(f"{place}/archive").headers["content-length"]
    assert answer.headers.get("content-range") == (f"bytes */{size}" if status == 416 else None)
    assert client.get(f"{place}/archive", headers={"Range": "bytes=2-5"}).status_code == 206


def test_a_range_in_units_that_nobody_knows_is_passed_over(client, place):
    whole = client.get(f"{place}/archive")
    answer = client.get(f"{place}/archive", headers={"Range": "lines=1-2"})
    assert (answer.status_code, answer.content) == (200, whole.content)
