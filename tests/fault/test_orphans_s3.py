"""`lake orphans` of a lake in S3: objects that no catalog row names, uploads that nobody finished, and a writer that waits."""

import os
import subprocess
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from lib.cli import ductstream, lines
from lib.ingest import EXAMPLE, Ingest, day
from lib.lake import LakeHome
from lib.paths import program
from lib.pause import Pause
from lib.rest import RestServer, nightscout
from lib.s3 import missing
from lib.s3_proxy import Answer
from lib.wait import wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

IN_FILES = EXAMPLE.read_text() + "inline_rows: 0\n"
PREFIX = "lake ö+&/"
HOUR = timedelta(hours=1)


class Lake:
    """raw.entries in a bucket, by ingestion; orphans() is the command."""

    def __init__(self, home, s3, bucket, folder):
        self.home, self.s3, self.name = home, s3, bucket
        self.ingest = Ingest(home, folder)
        self.path = self.ingest.file(IN_FILES)
        self.entries = day("2024-10-15", 40)
        self.server = RestServer(nightscout(self.entries))
        self.words = (self.path, "--partition", "2024-10-15")
        self.env = {"NIGHTSCOUT_URL": self.server.url}

    def run(self, **env):
        return self.ingest.run(*self.words, **self.env, **env)

    def killed_at(self, place):
        self.ingest.fails(*self.words, code=4, **self.env, DUCT_KILL_POINT=f"{place}:1")

    def start(self, pause):
        return self.ingest.start(*self.words, **self.env, **pause.env)

    def put(self, key=None, folder="raw/entries/"):
        """An object called as a data file is."""
        key = key or f"{PREFIX}{folder}ducklake-{uuid.uuid4()}.parquet"
        self.s3.put(self.name, key, b"left behind")
        return key

    def keys(self):
        return set(self.s3.keys(self.name))

    def make_old(self, hours=2):
        """The server takes when a file was written from its folder."""
        for path in (Path(self.s3.folder) / "data" / self.name).rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - hours * 3600,) * 2)

    def words_of_command(self, *words):
        return ("lake", "orphans", "--catalog", self.home.catalog, "--json", *words)

    def call(self, *words, code=0, **env):
        got, out, err = ductstream(*self.words_of_command(*words), env={**self.ingest.env, **env})
        assert got == code, (got, out, err)
        return lines(out)

    def orphans(self, *words, **env):
        """Their keys."""
        found = [o for o in self.call(*words, **env) if o["event"] == "orphan"]
        return {o["path"].removeprefix(f"s3://{self.name}/") for o in found}

    def whole(self):
        """Read by an official client, which opens every file."""
        got = self.ingest.rows("SELECT _id, sgv FROM raw.entries ORDER BY _id")
        assert got == sorted((e["_id"], e["sgv"]) for e in self.entries)


@pytest.fixture(params=["sqlite", "postgres"])
def lake(request, s3, bucket, tmp_path):
    catalog = f"sqlite:{tmp_path}/lake.sqlite"
    if request.param == "postgres":
        catalog = f"postgres:{request.getfixturevalue('database').dsn}"
    made = Lake(LakeHome(catalog, f"s3://{bucket}/{PREFIX}", s3=s3), s3, bucket, tmp_path)
    yield made
    made.server.__exit__()
    made.home.close()


def test_exactly_the_orphans_are_found_and_removed(lake):
    lake.run()
    live = lake.keys()
    lake.entries[0]["sgv"] = 399
    for place in ("file-sent", "ingest-planned"):
        lake.killed_at(place)
    left = lake.keys() - live
    assert len(left) == 2
    left |= {lake.put(folder=f"raw/n{i % 7}/") for i in range(150)}  # more than a slice
    others = {lake.put(PREFIX + "notes.parquet"), lake.put(PREFIX + "raw/ducklake-12.parquet"),
              lake.put(f"elsewhere/ducklake-{uuid.uuid4()}.parquet")}  # fmt: skip
    assert lake.orphans() == set(), "they are of this hour"
    lake.make_old()
    assert lake.orphans() == left
    (summary,) = [o for o in lake.call() if o["event"] == "summary"]
    assert (summary["files"], summary["removed"], summary["failed"]) == (152, 0, 0)
    assert lake.orphans("--delete") == left
    assert lake.keys() == live | others and lake.orphans() == set()
    lake.run()
    lake.whole()
    code, _, err = ductstream(*lake.words_of_command("--delete", "--older-than", "9m"), env=lake.ingest.env)
    assert code == 2 and "at least 10m" in err


def test_uploads_that_nobody_finished(s3, bucket, tmp_path):
    """Of a writer that died: listed, and taken back with --delete; others' uploads stay. Without the right to list them the rest is done."""
    lake = Lake(LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/{PREFIX}", s3=s3), s3, bucket, tmp_path)
    try:
        lake.run()
        client, today = s3.client(), datetime.now(timezone.utc).date()
        ours, theirs = f"{PREFIX}raw/entries/ducklake-{uuid.uuid4()}.parquet", f"{PREFIX}video.mp4"
        for key in (ours, theirs):
            upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
            client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
        (found,) = [o for o in lake.call("--older-than", "0s") if o["event"] == "orphan" and o["upload"]]
        assert found["path"] == f"s3://{bucket}/{ours}"
        assert today.isoformat() <= found["modified"][:10] <= datetime.now(timezone.utc).date().isoformat()
        assert lake.orphans("--delete") == set() and len(s3.uploads(bucket)) == 2, "they are young"
        lake.make_old()
        with s3.proxy() as proxy:
            at = {"DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
            proxy.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if "uploads" in r.query else None
            (warning,) = [o for o in lake.call(**at) if o["event"] == "warning"]
            assert "refuses ListBucketMultipartUploads" in warning["message"]
            # An upload's begin is the server's word, not a file's time.
            begun = (datetime.now(timezone.utc) - 2 * HOUR).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            upload_id = next(u["UploadId"] for u in client.list_multipart_uploads(Bucket=bucket)["Uploads"] if u["Key"] == ours)
            page = (
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><NextKeyMarker>x</NextKeyMarker>"
                f"<Upload><Key>{ours.replace('&', '&amp;')}</Key><UploadId>{upload_id}</UploadId><Initiated>{begun}</Initiated></Upload>"
                "</ListMultipartUploadsResult>"
            )
            proxy.fault = lambda r: Answer(200, page.encode()) if "uploads" in r.query else None
            assert lake.orphans("--delete", **at) == {ours}
        assert s3.uploads(bucket) == [theirs]
        lake.whole()
    finally:
        lake.server.__exit__()
        lake.home.close()


def test_objects_that_may_not_be_deleted_are_said(s3, bucket, tmp_path):
    lake = Lake(LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/{PREFIX}", s3=s3), s3, bucket, tmp_path)
    try:
        lake.run()
        key = lake.put()
        lake.make_old()
        name = "cleaner" + bucket[-8:]
        s3.user(name, "planted secret")
        s3.allow(bucket, name, ["s3:ListBucket", "s3:GetObject", "s3:ListBucketMultipartUploads"], PREFIX)
        keys = {"DUCKLAKE_S3_ACCESS_KEY": name, "DUCKLAKE_S3_SECRET_KEY": "planted secret"}
        said = lake.call("--delete", code=2, **keys)
        (orphan,) = [o for o in said if o["event"] == "orphan"]
        assert "refuses DeleteObject" in orphan["failure"] and not orphan["removed"] and "planted" not in str(said)
        assert key in lake.keys()
        assert lake.orphans("--delete") == {key}
        assert key not in lake.keys()
    finally:
        lake.server.__exit__()
        lake.home.close()


def wait_for(pause, run):
    wait_until(lambda: pause.reached or run.poll() is not None, 60, "the run to reach it")
    assert pause.reached, run.communicate()[0]


@pytest.mark.parametrize("removed", [False, True])
def test_files_of_a_writer_that_waited_for_long(removed, lake, tmp_path):
    """Before it commits it looks whether they are still there; when they are not, nothing of it is seen."""
    lake.run()
    live = lake.keys()
    lake.entries[0]["sgv"] = 398
    pause = Pause(tmp_path / "writer", "ingest-planned")
    run = lake.start(pause)
    wait_for(pause, run)
    late = lake.keys() - live
    lake.make_old()
    if removed:
        assert lake.orphans("--delete") == late
    time.sleep(2.1)  # what was written less than two seconds ago is not looked for
    pause.release()
    said = run.communicate(timeout=60)[0]
    assert run.returncode == (4 if removed else 0), said
    assert ("is not there any more" in said) == removed, said
    if removed:
        lake.run()
    lake.whole()


def test_a_file_that_is_named_in_the_last_moment_stays(lake, tmp_path):
    """The cleaner has found the file of a writer, who commits before it is removed."""
    lake.run()
    live = lake.keys()
    lake.entries[0]["sgv"] = 397
    pause, cleaner = Pause(tmp_path / "writer", "ingest-planned"), Pause(tmp_path / "cleaner", "orphans-slice")
    run = lake.start(pause)
    wait_for(pause, run)
    (late,) = lake.keys() - live
    lake.make_old()
    words = [str(word) for word in (program(), *lake.words_of_command("--delete"))]
    cleaning = subprocess.Popen(words, env={**lake.ingest.env, **cleaner.env}, stdout=subprocess.PIPE, text=True)
    wait_for(cleaner, cleaning)
    pause.release()
    assert (run.communicate(timeout=60), run.returncode)[1] == 0
    lake.make_old()
    cleaner.release()
    (listed,) = [o for o in lines(cleaning.communicate(timeout=60)[0]) if o["event"] == "orphan"]
    assert listed["path"].endswith(late) and not listed["removed"] and "failure" not in listed
    assert late in lake.keys()
    lake.whole()


def test_clocks_that_differ(s3, bucket, tmp_path):
    """A server whose clock is two hours behind ours gives files that look old: they are as young as it says."""
    lake = Lake(LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/{PREFIX}", s3=s3), s3, bucket, tmp_path)
    try:
        lake.run()
        key = lake.put()
        behind = datetime.now(timezone.utc) - 2 * HOUR
        page = (
            "<ListBucketResult><IsTruncated>false</IsTruncated>"
            f"<Contents><Key>{key.replace('&', '&amp;')}</Key><Size>11</Size><LastModified>{behind:%Y-%m-%dT%H:%M:%S}.000Z</LastModified></Contents>"
            "</ListBucketResult>"
        )
        with s3.proxy() as proxy:
            at = {"DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
            for date, found in ((behind + timedelta(minutes=1), set()), (behind + 3 * HOUR, {key})):
                header = {"Date": date.strftime("%a, %d %b %Y %H:%M:%S GMT")}
                proxy.fault = lambda r, h=header: Answer(200, page.encode(), h) if "list-type" in r.query else None
                assert lake.orphans(**at) == found, date
    finally:
        lake.server.__exit__()
        lake.home.close()
