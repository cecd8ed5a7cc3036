"""What servers send that one would rather not get: names, values, lists, pages, answers that break (issue 6, point 4 and bad input)."""

import gzip
import json
import os
import random
import signal
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lib.ingest import records, rest
from lib.raw_server import Server, ok
from lib.rest import RestServer


MERGE = "write: merge\nmerge_key: [id]\n"

# --- names and values

SYSTEM = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"]  # columns of every table of Postgres
NAMES = [
    *("rowid", "snapshot_id", "filename", "select", "order", "oid"),
    *('quo"ted', "it's", "a b", " lead", "semi;colon", "größe", "日本語", "😀", "a.b", "a[0]", "$x", "%s", "back\\slash", "new\nline"),
]
LONG = ["row_id", "begin_snapshot", "x" * 63 + "1", "x" * 63 + "2", "y" * 300, "é" * 40]
VALUES = [
    *("", "nul\0inside", "'; DROP TABLE raw.t; --", "back\\slash", "tab\tnew\nline\r", "😀\U0010ffff", "\ufffe", "NaN", "\\N", "\\."),
    *("x" * 70_000, "' || 1 || '", "$1", "{cursor}", "${HOME}", "\ufeffbom", " ", "null"),
]


@pytest.mark.parametrize("where", ["file", "catalog", "system"])
def test_names_and_values(ingest, where):
    """Whatever members are called and texts say comes out as it went in, from a file and from the catalog (issue 6, bad input)."""
    names = {"file": SYSTEM + NAMES + LONG, "catalog": NAMES, "system": SYSTEM}[where]
    values = [value for value in VALUES if len(value) < 1000 or where == "file"]
    item = {"id": 1, **{name: i for i, name in enumerate(names)}, **{f"v{i}": value for i, value in enumerate(values)}}
    with RestServer(records([item])) as server:
        path = ingest.file(rest(server.url, f"{MERGE}inline_rows: {0 if where == 'file' else 500}\n"))
        for replaced in (0, 1):
            (result,) = ingest.run(path)
            assert (result["rows"], result["replaced"]) == (1, replaced)
    assert result["inlined"] == (where == "catalog" or (where == "system" and ingest.home.sqlite_path is not None))
    with ingest.home.open() as lake:
        (row,) = lake.dicts("SELECT * FROM raw.t")
    assert row == item


@pytest.mark.parametrize("where", ["catalog", "file", "parquet", "official"])
def test_each_value_alone(ingest, where):
    """Texts that are hard to write, as keys and one a row, wherever the rows are that they are looked for in (issue 6, bad input)."""
    items = [{"id": value, "n": i} for i, value in enumerate(VALUES) if len(value) < 1000]
    items += [{"id": f"k\0{i}", "n": 100 + i} for i in range(20)]  # bounds that no catalog can say
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest.file(rest(server.url, f"{MERGE}inline_rows: {500 if where == 'catalog' else 0}\n"))
        if where == "parquet":
            pq.write_table(pa.Table.from_pylist(items), ingest.folder / "x.parquet")
            ingest.run(ingest.folder / "x.parquet", "--into", "raw.t")
        elif where == "official":
            with ingest.home.open() as lake:
                lake.sql("CREATE SCHEMA raw")
                lake.sql("CREATE TABLE raw.t (id VARCHAR, n BIGINT)")
                pq.write_table(pa.Table.from_pylist(items), ingest.folder / "x.parquet")
                lake.sql(f"INSERT INTO raw.t SELECT * FROM read_parquet('{ingest.folder}/x.parquet')")
        else:
            ingest.run(path)
        for item in items:
            item["n"] += 100
        (result,) = ingest.run(path)
        assert result["replaced"] == len(items)
    assert ingest.rows("SELECT id, n FROM raw.t ORDER BY n") == [(i["id"], i["n"]) for i in items]


def test_members_given_twice(ingest_sqlite):
    """Of members of one name the last one counts, lists included (issue 6, bad input)."""
    text = '[{"id": 1, "a": "x", "l": [1, 2], "a": "y", "l": [3]}]'
    with RestServer(lambda request: (200, {}, text)) as server:
        ingest_sqlite.run(ingest_sqlite.file(rest(server.url, f"nested: tables\n{MERGE}")))
    assert ingest_sqlite.rows("SELECT id, a FROM raw.t") == [(1, "y")]
    assert ingest_sqlite.rows('SELECT _parent_id, _index, "value" FROM raw.t__l') == [(1, 0, 3)]


def test_names_that_are_alike(ingest_sqlite):
    """Names that differ in case keep their columns in whatever order they come; in snake case the one that is spelled so has the name (issue 6)."""
    items = [{"id": 1, "Name": "a", "name": "b", "NAME": "c"}]
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest_sqlite.file(rest(server.url, MERGE))
        ingest_sqlite.run(path)
        items[:] = [{"name": "b", "NAME": "c", "id": 2, "Name": "a"}]
        ingest_sqlite.run(path)
        assert ingest_sqlite.rows('SELECT id, "Name", name_1, "NAME_2" FROM raw.t ORDER BY id') == [(1, "a", "b", "c"), (2, "a", "b", "c")]
        snake = ingest_sqlite.file(rest(server.url, "names: snake_case\n", "raw.u"))
        for order in (("fooBar", "foo_bar"), ("foo_bar", "fooBar")):
            items[:] = [{name: name for name in order}, {order[0]: order[0]}]
            ingest_sqlite.run(snake)
        got = ingest_sqlite.rows("SELECT foo_bar, foo_bar_1, count(*) FROM raw.u GROUP BY ALL ORDER BY ALL")
        assert got == [("foo_bar", "fooBar", 2), ("foo_bar", None, 1), (None, "fooBar", 1)]


@pytest.mark.parametrize(
    "text, code, part",
    [
        ("[" * 300 + "]" * 300, 3, "200 levels"),
        ('[{"a": ' + "[" * 150 + "]" * 150 + "}]", 0, ""),
        ('[{"a": 1e400}]', 3, '"a"'),
        ('[{"a": ' + "9" * 60 + "}]", 3, '"a"'),
        ('[{"a": ' + "9" * 38 + "}]", 0, ""),
        ('[{"a": 9007199254740993}, {"a": 0.5}]', 3, '"a"'),
        ('[{"a": 01}]', 3, "not valid JSON"),
        ('[{"a": "\\ud800"}]', 0, ""),
        ('[{"a": NaN}]', 3, "not valid JSON"),
        ("", 3, "too early"),
        ("   ", 3, "too early"),
        ("<html>Sign in</html>", 3, "not valid JSON at byte 0"),
        ('[{"a": 1}', 3, "too early"),
        ('[{"a": true}, {"a": 1}]', 3, '"a"'),
        ("[[1, 2]]", 3, "no object"),
        ("null", 0, ""),
        ('"text"', 3, "no object"),
        ("[" + ",".join('{"m%d": 1}' % i for i in range(2100)) + "]", 3, "2000"),
    ],
)
def test_odd_answers(ingest_sqlite, text, code, part):
    """What is not JSON, not a number, too deep or too wide is named; the rest lands (issue 6, bad input)."""
    with RestServer(lambda request: (200, {}, text)) as server:
        path = ingest_sqlite.file(rest(server.url))
        if code:
            assert part in ingest_sqlite.fails(path, code=code)
        else:
            ingest_sqlite.run(path)


# --- lists


def test_lists_of_all_sorts(ingest):
    """Items that are objects, texts and lists by turns; lists with odd names (issue 6, point 4)."""
    items = [{"id": 1, "l": [{"x": 1, "value": "v"}, "plain", None, {"x": 2}, "more"], "../up": [1], "a b": [2], "deep": {"l": [5]}}]
    with RestServer(records(items)) as server:
        path = ingest.file(rest(server.url, f"nested: tables\n{MERGE}"))
        ingest.run(path)
        ingest.run(path)
    got = ingest.rows('SELECT _index, x, "value" FROM raw.t__l ORDER BY ALL')
    assert got == [(0, 1, "v"), (1, None, "plain"), (2, None, None), (3, 2, None), (4, None, "more")]
    assert ingest.rows('SELECT "value" FROM raw."t__../up"') == [(1,)]
    assert ingest.rows('SELECT "value" FROM raw."t__a b"') == [(2,)]
    assert ingest.rows("SELECT _parent_id, \"value\" FROM raw.t__deep__l") == [(1, 5)]


@pytest.mark.parametrize("inlined", [0, 500])
def test_lists_that_go(ingest_sqlite, inlined):
    """Rows of lists go with their record, also when no record has such a list any more, or there is no record (issue 6, point 4)."""
    items = [{"id": i, "at": "2024-10-15T00:00:00Z", "l": [i, i]} for i in (1, 2, 3)]
    with RestServer(lambda request: (200, {}, items)) as server:
        more = f"nested: tables\n{MERGE}inline_rows: {inlined}\npartition: {{column: at}}\nparams: {{a: '{{partition.key}}'}}\n"
        path = ingest_sqlite.file(rest(server.url, more))
        # A table of somebody else's, whose lists are named as ours might be.
        other = ingest_sqlite.file(rest(server.url, f"nested: tables\n{MERGE}", "raw.t__x"), "other.yaml")
        ingest_sqlite.run(other)
        run = (path, "--partition", "2024-10-15")
        rows = 'SELECT _parent_id, _index, "value" FROM raw.t__l ORDER BY ALL'
        ingest_sqlite.run(*run)
        assert len(ingest_sqlite.rows(rows)) == 6
        items[:] = [{"id": 1, "at": items[0]["at"]}, {"id": 2, "at": items[0]["at"], "l": None}]
        ingest_sqlite.run(*run)
        assert ingest_sqlite.rows(rows) == []
        items[:] = [{"id": 1, "at": items[0]["at"], "l": [7]}]
        ingest_sqlite.run(*run)
        assert ingest_sqlite.rows(rows) == [(1, 0, 7)]
        items.clear()
        ingest_sqlite.run(*run)
        assert ingest_sqlite.rows(rows) == []
    assert ingest_sqlite.rows("SELECT count(*) FROM raw.t__x__l") == [(6,)]


@pytest.mark.parametrize("kind", ["timestamptz", "decimal(9,2)", "double"])
def test_lists_of_records_with_typed_keys(ingest, kind):
    """A record's lists are found by its key whatever type that is declared to be, in files and in the catalog (issue 6, point 4)."""
    key = {"timestamptz": "2024-10-15T01:00:00+02:00", "decimal(9,2)": "1.5", "double": 7}[kind]
    items = [{"id": key, "l": [1, 2]}]
    with RestServer(lambda request: (200, {}, items)) as server:
        for inlined in (0, 500):
            more = f'nested: tables\n{MERGE}inline_rows: {inlined}\ncolumns: {{id: "{kind}"}}\n'
            path = ingest.file(rest(server.url, more, f"raw.t{inlined}"))
            for _ in range(2):
                ingest.run(path)
            assert ingest.rows(f'SELECT _index, "value" FROM raw.t{inlined}__l ORDER BY ALL') == [(0, 1), (1, 2)]
            same = ingest.rows(f"SELECT count(*) FROM raw.t{inlined} JOIN raw.t{inlined}__l ON id = _parent_id")
            assert same == [(2,)]


def test_replace_takes_the_lists_with_it(ingest_sqlite):
    items = [{"id": 1, "l": [1, 2]}]
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest_sqlite.file(rest(server.url, "nested: tables\nwrite: replace\nmerge_key: [id]\n"))
        ingest_sqlite.run(path)
        items[:] = [{"id": 2}]
        ingest_sqlite.run(path)
    assert ingest_sqlite.rows("SELECT count(*) FROM raw.t__l") == [(0,)]
    assert ingest_sqlite.rows("SELECT id FROM raw.t") == [(2,)]


# --- pages

ROWS = [{"id": i, "v": f"v{i}"} for i in range(7)]


@pytest.mark.parametrize(
    "paging",
    [
        "paging: {type: page, param: page, size: 3}",
        "paging: {type: offset, param: skip, size_param: take, size: 3}",
        "paging: {type: page, param: page}",
        "paging: {type: cursor, param: after, path: next}",
        "paging: {type: next_url, path: next}",
    ],
)
def test_the_same_page_for_ever(ingest_sqlite, paging):
    """A server that does not heed which page is asked for is found out at the third page (issue 6, bad input)."""
    count = iter(range(10_000))
    with RestServer(lambda request: (200, {}, {"items": ROWS[:3], "next": f"?n={next(count)}"})) as server:
        said = ingest_sqlite.fails(ingest_sqlite.file(rest(server.url, f"{paging}\nrecords: items\n")), code=3)
        assert "page 3 is the same" in said and len(server.requests) == 3


@pytest.mark.parametrize("size, link, rows", [("", False, 7), ("", True, 7), (", size_param: per_page, size: 100", True, 7)])
def test_pages_shorter_than_thought(ingest_sqlite, size, link, rows):
    """Where the size is not known an empty page is the last; a Link says that a short one is not (issue 6, point 4)."""

    def answer(request):
        at = (int(request.params["page"]) - 1) * 3
        more = {"Link": f'</items?page={at // 3 + 2}>; rel="next"'} if link and at + 3 < 7 else {}
        return 200, more, ROWS[at : at + 3]

    with RestServer(answer) as server:
        (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, f"paging: {{type: page, param: page{size}}}\n")))
    assert result["rows"] == rows


@pytest.mark.parametrize("form", ["{path}?at={at}", "?at={at}", "items?at={at}", "{url}{path}?at={at}", "./items?at={at}#end"])
def test_addresses_of_the_next_page(ingest_sqlite, form):
    def answer(request):
        at = int(request.params.get("at", 0))
        next_page = form.format(path="/items", at=at + 3, url=f"http://{request.headers['Host']}") if at + 3 < 7 else None
        return 200, {}, {"items": ROWS[at : at + 3], "links": {"next": next_page}}

    with RestServer(answer) as server:
        more = "paging: {type: next_url, path: links.next}\nrecords: items\n"
        (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, more)))
    assert result["rows"] == 7


@pytest.mark.parametrize("host", ["https://{host}", "http://user:hush@{host}", "//{host}", "http://elsewhere.test", "file:///etc"])
def test_other_servers_get_nothing(ingest_sqlite, host):
    """An address that is not of the server asked is refused, and what we sent is not repeated (issue 6, bad input)."""

    def answer(request):
        return 200, {}, {"items": ROWS, "next": host.format(host=request.headers["Host"]) + f"/items?{request.path.split('?')[1]}&at=3"}

    with RestServer(answer) as server:
        more = "auth: {type: api_key, param: key, value: '${KEY}'}\npaging: {type: next_url, path: next}\nrecords: items\n"
        said = ingest_sqlite.fails(ingest_sqlite.file(rest(server.url, more)), code=3, KEY="s3cret")
    assert "another server" in said and "s3cret" not in said and "hush" not in said


@pytest.mark.parametrize("path", ["@odata.nextLink", '"@odata.nextLink"', "meta.@odata.nextLink", "data[-1].id"])
def test_where_the_next_page_stands(ingest_sqlite, path):
    """A name with dots in it, in quotes or not, and the last record: all pages come, not the first alone (issue 6, point 4)."""
    items = [{"id": f"x{i}"} for i in range(7)]

    def answer(request):
        first = int(request.params.get("after", "x-1")[1:]) + 1
        link = {} if first + 3 >= len(items) else {"@odata.nextLink": f"{server.url}/items?after=x{first + 2}"}
        return 200, {}, {"data": items[first : first + 3], **(link if path[0] != "m" else {}), "meta": link}

    with RestServer(answer) as server:
        kind = "cursor, param: after" if path[0] == "d" else "next_url"
        ingest_sqlite.run(ingest_sqlite.file(rest(server.url, f"records: data\npaging: {{type: {kind}, path: '{path}'}}\n")))
    assert ingest_sqlite.rows("SELECT id FROM raw.t ORDER BY id") == [(item["id"],) for item in items]


@pytest.mark.parametrize("cursors", [[1.5, 2.25], [1e3, 1e15], ["a b", "&=%"], [7, 0]])
def test_cursors_of_every_kind(ingest_sqlite, cursors):
    """A number is sent as it is spelled, also one with a fraction; false says that there are no more pages (issue 6, point 4)."""
    sent = [str(c) if isinstance(c, str) else json.dumps(c) for c in cursors]

    def answer(request):
        at = sent.index(request.params["after"]) + 1 if "after" in request.params else 0
        return 200, {}, {"items": [{"id": at}], "next": [*cursors, False][at]}

    with RestServer(answer) as server:
        (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, "paging: {type: cursor, param: after, path: next}\nrecords: items\n")))
    assert result["pages"] == len(cursors) + 1
    assert ingest_sqlite.rows("SELECT id FROM raw.t ORDER BY id") == [(i,) for i in range(len(cursors) + 1)]


@pytest.mark.parametrize("cursor", [True, {"id": 5}, [5]], ids=str)
def test_a_cursor_that_is_none(ingest_sqlite, cursor):
    """What cannot be sent as a cursor ends the run, which would have had the first page alone (issue 6, bad input)."""
    with RestServer(records({"items": [{"id": 1}], "next": cursor})) as server:
        path = ingest_sqlite.file(rest(server.url, "paging: {type: cursor, param: after, path: next}\nrecords: items\n"))
        said = ingest_sqlite.fails(path, code=3)
    assert '"next"' in said and "a text or a number" in said


def test_links_in_several_headers(ingest_sqlite):
    """A Link header may come more than once (RFC 9110): the next page is in whichever has it (issue 6, point 4)."""
    links = 'Link: </style.css>; rel="preload"', 'Link: </items?at=2>; rel="next"'
    with Server(ok('[{"id": 1}]', *links), ok('[{"id": 2}]')) as server:
        (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, "paging: {type: link}\n")))
    assert result["pages"] == 2
    assert ingest_sqlite.rows("SELECT id FROM raw.t ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("stranger", ["2024-10-16T00:00:00Z", "n/a", None])
def test_replaced_partitions_have_their_own_rows_alone(ingest_sqlite, stranger):
    """A record of another partition would be there once more after each run: it is named, and nothing is written (issue 6, bad input)."""
    items = [{"id": 1, "at": "2024-10-15T01:00:00Z"}]
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest_sqlite.file(rest(server.url, "write: replace\npartition: {column: at}\n"))
        ingest_sqlite.run(path, "--partition", "2024-10-15")
        items.append({"id": 2, "at": stranger})
        said = ingest_sqlite.fails(path, "--partition", "2024-10-15", code=3)
        assert "row 2" in said and '"at"' in said and "partition 2024-10-15" in said and str(stranger or "null") in said
        items.pop()
        ingest_sqlite.run(path, "--partition", "2024-10-15")
    assert ingest_sqlite.rows("SELECT id FROM raw.t") == [(1,)]


def test_empty_day_without_content(ingest_sqlite):
    """204 says that there is nothing (issue 6, bad input)."""
    with RestServer(lambda request: (204, {}, "")) as server:
        (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, "records: data.items\n")))
    assert (result["rows"], result["records"]) == (0, 0)


# --- answers that break


def http(body, headers="", length=None):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body) if length is None else length}\r\n{headers}\r\n".encode() + body


BODY = json.dumps(ROWS).encode()


def slow(sock):
    body = http(BODY)
    for i in range(0, len(body), 40):
        time.sleep(0.05)
        sock.sendall(body[i : i + 40])


def silent(sock):
    sock.sendall(http(BODY)[:60])
    time.sleep(5)


@pytest.mark.parametrize(
    "answers",
    [
        [http(BODY, length=len(BODY) + 10), http(BODY)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{\"i", http(BODY)],
        [b"", http(BODY)],
        [slow],
        [silent, http(BODY)],
        [http(gzip.compress(BODY), "Content-Encoding: gzip\r\n")],
    ],
    ids=["cut", "chunk-cut", "nothing", "slow", "silent", "gzip"],
)
def test_answers_that_break(ingest_sqlite, answers):
    """An answer that is cut, stalls or is garbage is asked for again, and counts once (issue 6, bad input)."""
    with Server(*answers) as server:
        (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, "timeout: 1s\n")))
        assert (result["rows"], len(server.heads)) == (7, len(answers))
    assert ingest_sqlite.rows("SELECT id, v FROM raw.t ORDER BY id") == [(r["id"], r["v"]) for r in ROWS]


@pytest.mark.parametrize(
    "said, code, part",
    [
        (http(b'[{"a": "\xff\xfe"}]'), 3, "UTF-8"),
        (http(gzip.compress(BODY)[:-20], "Content-Encoding: gzip\r\n"), 3, "too early"),
        (b"\x00\x01garbage\r\n\r\n", 2, "HTTP/0.9"),
    ],
    ids=["utf8", "gzip-cut", "garbage"],
)
def test_answers_that_are_none(ingest_sqlite, said, code, part):
    with Server(said) as server:
        assert part in ingest_sqlite.fails(ingest_sqlite.file(rest(server.url)), code=code)


@pytest.mark.parametrize(
    "said",
    [
        http(b" " * 100_000 + BODY),
        http(gzip.compress(b" " * 50_000_000 + BODY), "Content-Encoding: gzip\r\n"),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000 + b"Content-Length: 200000\r\n\r\n" + b" " * 200_000,
    ],
    ids=["body", "bomb", "headers"],
)
def test_answers_that_are_too_long(ingest_sqlite, said):
    with Server(said) as server:
        text = ingest_sqlite.fails(ingest_sqlite.file(rest(server.url, "max_page_bytes: 64KiB\n")), code=3)
    assert "longer than 65536 bytes" in text


@pytest.mark.parametrize("date", [False, True])
def test_retry_after(ingest_sqlite, date):
    """Retry-After is kept, as seconds and as a date (issue 6, point 4)."""

    def later(sock):
        after = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=3), usegmt=True) if date else "2"
        sock.sendall(f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n".encode())

    with Server(later, http(BODY)) as server:
        ingest_sqlite.run(ingest_sqlite.file(rest(server.url)))
        assert len(server.times) == 2 and server.times[1] - server.times[0] >= 1.8


def test_a_line_break_in_a_secret(ingest_sqlite):
    """A header that would become two is refused, without its value (issue 6, bad input)."""
    with RestServer(records(ROWS)) as server:
        path = ingest_sqlite.file(rest(server.url, "auth: {type: bearer, token: '${T}'}\n"))
        said = ingest_sqlite.fails(path, code=2, T="s3cret\r\nX-Admin: 1")
        assert "Authorization" in said and "line break" in said and "s3cret" not in said and not server.requests


# --- kill -9

PLACES = ["epoch-raised:1", "file-written:1", "file-synced:2", "commit-planned:1", "commit-statement:3", "commit-sent:1"]


def test_killed_anywhere(ingest):
    """Killed at every step and at any moment, records and their lists are those of one run, old or new; done again, they are the new ones."""
    rng = random.Random("kill")
    items, steps = [], iter(range(1, 100))
    with RestServer(lambda request: (200, {}, items)) as server:
        more = f"nested: tables\n{MERGE}inline_rows: 0\npartition: {{column: at}}\nparams: {{a: '{{partition.key}}'}}\n"
        run = (ingest.file(rest(server.url, more)), "--partition", "2024-10-15")

        def change():
            step = next(steps)
            items[:] = [{"id": i, "at": "2024-10-15T00:00:00Z", "step": step, "l": [step] * (i % 3)} for i in range(step % 7, 30)]
            return step

        def seen():
            with ingest.home.open() as lake:
                at = lake.last_snapshot()  # of both: a server may still be about to end the commit of who was killed
                rows = lake.sql(f"SELECT id, step FROM {lake.source('raw.t', at)} ORDER BY id")
                lists = lake.sql(f'SELECT _parent_id, "value" FROM {lake.source("raw.t__l", at)} ORDER BY _parent_id, _index')
            (step,) = {step for _, step in rows}
            assert rows == [(i, step) for i in range(step % 7, 30)]
            assert lists == [(i, step) for i in range(step % 7, 30) for _ in range(i % 3)]
            return step

        change()
        ingest.run(*run)
        for place in PLACES:
            before, step = seen(), change()
            ingest.start(*run, DUCT_KILL_POINT=place).communicate(timeout=60)
            assert seen() in (before, step), place
        for _ in range(6):
            before, step = seen(), change()
            with ingest.start(*run, new_session=True) as started:
                time.sleep(rng.uniform(0.01, 0.3))
                os.killpg(started.pid, signal.SIGKILL)
            assert seen() in (before, step)
        step = change()
        ingest.run(*run)
        assert seen() == step


# --- cursors


@pytest.mark.parametrize(
    "values, cursor",
    [
        ([9, 10, 2], "10"),
        ([99999999999999999999, 100000000000000000000, 5], "100000000000000000000"),
        ([9.5, 10.25, 9], "10.25"),
        ([-5, -3, -40], "-3"),
        (["2024-01-02", None, "2024-01-10", "2024-01-02"], "2024-01-10"),
        (["2024-01-02T10:00:00Z", "2024-01-02T10:00:00.5Z", "2024-01-02T10:00:00.25Z"], "2024-01-02T10:00:00.5Z"),
        ([0.5, 1e3, 999], "1000.0"),
        (["9", "10"], "10"),
    ],
)
def test_cursors(ingest_sqlite, values, cursor):
    """The greatest value, by value where they are numbers; equal ones and late rows are merged (issue 6, point 4)."""
    items = [{"id": i, "at": value} for i, value in enumerate(values)]
    with RestServer(lambda request: (200, {}, items)) as server:
        more = f'{MERGE}params: {{since: "{{cursor}}"}}\nincremental: {{field: at}}\ncolumns: {{at: varchar}}\n'
        path = ingest_sqlite.file(rest(server.url, more))
        (first,) = ingest_sqlite.run(path)
        items[:] = items[:1]
        (second,) = ingest_sqlite.run(path)
        assert (first["cursor"], second["cursor"], second["replaced"]) == (cursor, cursor, 1)
        assert server.requests[1].params["since"] == cursor
    assert ingest_sqlite.rows("SELECT count(*) FROM raw.t") == [(len(values),)]


# --- partitions


@pytest.mark.parametrize(
    "zone, start, end, spans",
    [
        ("Europe/London", "2024-03-30T22", "2024-03-31T04", [1, 1, 1, 0, 1, 1, 1]),
        ("Europe/London", "2024-10-26T23", "2024-10-27T03", [1, 1, 2, 1, 1]),
        ("Australia/Lord_Howe", "2024-10-06T01", "2024-10-06T03", [1, 0.5, 1]),
    ],
)
def test_hours_where_the_clocks_change(ingest_sqlite, zone, start, end, spans):
    """Hours of a zone lie side by side without gap or overlap, also where one is missing or comes twice (issue 6, point 4)."""
    with RestServer(records([])) as server:
        more = f"partition: {{every: hour, zone: {zone}}}\nparams: {{a: '{{partition.start}}', b: '{{partition.end}}'}}\n"
        ingest_sqlite.run(ingest_sqlite.file(rest(server.url, more)), "--from", start, "--to", end)
        asked = [[datetime.fromisoformat(r.params[k].replace("Z", "+00:00")) for k in "ab"] for r in server.requests]
    assert [(b - a) / timedelta(hours=1) for a, b in asked] == spans
    assert all(before[1] == after[0] for before, after in zip(asked, asked[1:]))


@pytest.mark.parametrize(
    "every, start, end, keys",
    [
        ("day", "2024-02-28", "2024-03-01", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("month", "2023-12", "2024-02", ["2023-12", "2024-01", "2024-02"]),
        ("hour", "2023-12-31T23", "2024-01-01T00", ["2023-12-31T23", "2024-01-01T00"]),
        ("day", "2024-03-01", "2024-02-28", None),
        ("month", "2024-02", "2024-02-28", None),
    ],
)
def test_ranges(ingest_sqlite, every, start, end, keys):
    """Both ends of a range are done, over the ends of months and years; one that is none is refused (issue 6, point 4)."""
    with RestServer(records([])) as server:
        path = ingest_sqlite.file(rest(server.url, f"partition: {{every: {every}}}\nparams: {{k: '{{partition.key}}'}}\n"))
        if keys is None:
            ingest_sqlite.fails(path, "--from", start, "--to", end, code=2)
        else:
            ingest_sqlite.run(path, "--from", start, "--to", end)
        assert [r.params["k"] for r in server.requests] == (keys or [])


# --- the last of a million

MILLION = 1_000_000


def pages_of(count, size, last):
    """An answer to requests for pages; what comes as the last one is last(records): records, or (status, headers, text)."""

    def answer(request):
        page = int(request.params["page"])
        items = [{"id": i, "v": i} for i in range((page - 1) * size + 1, min(page * size, count) + 1)]
        made = last(items) if page * size == count else items
        return made if isinstance(made, tuple) else (200, {}, made)

    return answer


def misfit(items):
    items[-1]["v"] = "abc"
    return items


def test_the_millionth_record(ingest_sqlite, tmp_path):
    """A value that does not fit, a server that ends or is cut off there: said where, nothing is written; mended, all of it comes (issue 6)."""
    last = [misfit]
    with RestServer(pages_of(MILLION, 50_000, lambda items: last[0](items))) as server:
        path = ingest_sqlite.file(rest(server.url, "paging: {type: page, param: page, size: 50000}\n"))
        said = ingest_sqlite.fails(path, code=3)
        assert f"row {MILLION}" in said and 'column "v"' in said
        last[0] = lambda items: (404, {}, "no more")
        assert "page 20" in ingest_sqlite.fails(path, code=2)
        last[0] = lambda items: (200, {}, '[{"id": 950001, "v"')
        assert "page 20" in ingest_sqlite.fails(path, code=3)
        assert list(tmp_path.rglob("*.parquet")) == []
        last[0] = lambda items: items
        ingest_sqlite.run(path)
    assert ingest_sqlite.rows("SELECT count(*), count(DISTINCT id), sum(v) FROM raw.t") == [(MILLION, MILLION, MILLION * (MILLION + 1) // 2)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_millionth_line(ingest_sqlite, tmp_path, kind):
    """The same of files, by the line; and a file that ends in the middle of a record."""
    file = tmp_path / f"x.{kind}"
    line = "%d,%s\n" if kind == "csv" else '{"id":%d,"v":%s}\n'
    head = ("id,v\n" if kind == "csv" else "") + "".join(line % (i, i) for i in range(1, MILLION))
    number = MILLION + (kind == "csv")
    file.write_text(head + line % (MILLION, "abc" if kind == "csv" else '"abc"'))
    said = ingest_sqlite.fails(file, "--into", "raw.t", code=3)
    assert f"ine{':' if kind == 'csv' else ''} {number}" in said and "abc" in said
    if kind == "jsonl":
        file.write_text(head + '{"id":1000000,"v":')
        assert "Malformed JSON" in ingest_sqlite.fails(file, "--into", "raw.t", code=3)
    file.write_text(head + line % (MILLION, MILLION))
    ingest_sqlite.run(file, "--into", "raw.t")
    assert ingest_sqlite.rows("SELECT count(*), sum(v) FROM raw.t") == [(MILLION, MILLION * (MILLION + 1) // 2)]
