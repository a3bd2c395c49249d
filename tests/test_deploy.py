"""The deploy files as shipped are right, and each way of breaking them is told, by name and alone."""

import shutil
from pathlib import Path

import pytest

from pipeline.deploy import files, problems
from pipeline.deploy.machines import node_groups
from pipeline.deploy.schedule import cron_problems

ROOT = Path(__file__).parents[1]
FILES = [files.JOB, files.SCHEDULE, files.COMPUTE, files.OLD_ENV, files.IMAGE, files.REQUIREMENTS, "main.py"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of everything that the checks look at."""
    for name in FILES:
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("configs", "pipeline"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def replace(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text, f"{name} has no {old!r} to break"
    path.write_text(text.replace(old, new, 1))


def test_the_shipped_files_are_right():
    assert problems(str(ROOT)) == []


BREAKS: list[tuple[str, str, str, list[str]]] = [
    # file, what is there, what takes its place, what the problems say (one each, in order)
    # formats, by Anyscale's models
    ("job.yaml", "max_retries: 5", "max_retries: 5\nmax_retry: 5", ["job.yaml: * 'max_retry'"]),
    ("job.yaml", "timeout_s: 172800", "timeout_s: soon", ["job.yaml: 'timeout_s' must be an int."]),
    ("schedule.yaml", "timezone: UTC", "timezone: UTC\nname: nightly", ["schedule.yaml: * 'name'"]),
    ("schedule.yaml", "  timeout_s: 20000", "  timeout: 20000", ["schedule.yaml: * 'timeout'"]),
    ("cluster_compute.yaml", "enable_cross_zone_scaling", "cross_zone_scaling", ["* 'cross_zone_scaling'"]),
    ("cluster_compute.yaml", "market_type: PREFER_SPOT", "market_type: CHEAP", ["cluster_compute.yaml: * 'CHEAP'"]),
    ("cluster_env.yaml", "debian_packages", "apt_packages", ["cluster_env.yaml: * 'apt_packages'"]),
    ("cluster_env.yaml", "conda_packages", "condas", ["cluster_env.yaml: * 'condas'"]),
    # files
    ("schedule.yaml", "timezone: UTC", "timezone: [", ["schedule.yaml: not valid YAML"]),
    # the image
    (
        "job.yaml",
        "containerfile: ./Containerfile",
        "containerfile: ./Containerfile\nimage_uri: anyscale/image/cutroom:1",
        ["job.yaml: image_uri and containerfile: give exactly one"],
    ),
    ("job.yaml", "containerfile: ./Containerfile\n", "", ["job.yaml: neither image_uri nor containerfile"]),
    (
        "job.yaml",
        "containerfile: ./Containerfile",
        "image_uri: anyscale/ray-llm:2.57.0-py312-cu130",
        ["job.yaml: the image has Ray 2.57.0, requirements.txt pins 2.60.0"],
    ),
    ("job.yaml", "./Containerfile", "./Dockerfile", ["job.yaml: containerfile: no ./Dockerfile"]),
    ("job.yaml", "working_dir: .", "working_dir: src", ["job.yaml: working_dir: no src", "no main.py in src"]),
    ("job.yaml", "working_dir: .", "working_dir: configs", ["job.yaml: working_dir: no main.py in configs"]),
    ("job.yaml", "working_dir: .", "", ["job.yaml: no working_dir"]),
    ("job.yaml", "./Containerfile", "./main.py", ["job.yaml: containerfile: ./main.py is not Containerfile"]),
    (
        "job.yaml",
        "containerfile: ./Containerfile",
        "image_uri: anyscale/ray-llm:2.60.0-py312-cu130",
        ["job.yaml: anyscale/ray-llm:2.60.0-py312-cu130 has none of requirements.txt"],
    ),
    (
        "Containerfile",
        "ray-llm:2.60.0-py312-cu130",
        "ray:2.60.0-py312-cpu",
        ["no image for vLLM on GPUs", "base_image is"],
    ),
    (
        "cluster_env.yaml",
        "conda_packages: []",
        "conda_packages: [ffmpeg]",
        ["cluster_env.yaml: debian_packages, conda"],
    ),
    (
        "requirements.txt",
        "ray[data,llm,serve,train]==",
        "ray[data,llm,serve,train]>=",
        ["requirements.txt: no `ray==`"],
    ),
    ("job.yaml", "working_dir: .", "working_dir: .\nrequirements: more.txt", ["job.yaml: requirements: no more.txt"]),
    (
        "Containerfile",
        "FROM anyscale/ray-llm:2.60.0-",
        "FROM anyscale/ray-llm:2.57.0-",
        ["Containerfile: the image has Ray 2.57.0", "cluster_env.yaml: base_image is *2.60.0*FROM*2.57.0"],
    ),
    (
        "cluster_env.yaml",
        "ray-llm:2.60.0-",
        "ray-llm:2.60.1-",
        ["cluster_env.yaml: the image has Ray 2.60.1", "cluster_env.yaml: base_image is"],
    ),
    (
        "requirements.txt",
        "serve,train]==2.60.0",
        "serve,train]==2.61.0",
        ["Containerfile: the image has Ray 2.60.0, *2.61.0", "cluster_env.yaml: the image has Ray 2.60.0"],
    ),
    ("requirements.txt", "pillow==13.0.0", "pillow==13.0.1", ["Containerfile: pillow==13.0.0, requirements.txt has"]),
    ("requirements.txt", "openai==", "brotli==1\nopenai==", ["Containerfile: no brotli, requirements.txt has brotli"]),
    ("cluster_env.yaml", "av==18.1.0", "av==17.0.0", ["cluster_env.yaml: av==17.0.0, Containerfile has av==18.1.0"]),
    ("cluster_env.yaml", "    - duckdb==2.0.0\n", "", ["cluster_env.yaml: no duckdb, Containerfile has duckdb"]),
    ("cluster_env.yaml", "[]\npython", "[ffmpeg]\npython", ["cluster_env.yaml: debian_packages"]),
    ("Containerfile", "ENV VLLM_NO_USAGE_STATS=1", "ENV VLLM_NO_USAGE_STATS=2", ["cluster_env.yaml: env_vars are"]),
    (
        "Containerfile",
        "RUN pip",
        "RUN apt-get update\nRUN pip",
        ["Containerfile: RUN apt-get update: has no counterpart"],
    ),
    (
        "Containerfile",
        "RUN pip",
        "RUN pip install x && rm y\nRUN pip",
        ["Containerfile: RUN pip install x && rm y: has"],
    ),
    (
        "Containerfile",
        "ENV VLLM",
        "ENV AWS_ACCESS_KEY_ID=x\nENV VLLM",
        ["cluster_env.yaml: env_vars are", "Containerfile: AWS_ACCESS_KEY_ID does not belong into an image"],
    ),
    (
        "Containerfile",
        "# Ray,",
        "# hf_abcdefghijklmnopqrstuvwx\n# Ray,",
        ["Containerfile: line 3 holds what looks like"],
    ),
    # what is uploaded
    (
        "job.yaml",
        "excludes: [.git,",
        "excludes: [pipeline/plan,",
        ["job.yaml: excludes * pipeline/plan/__init__.py and"],
    ),
    (
        "job.yaml",
        "excludes: [.git,",
        "excludes: [configs,",
        ["job.yaml: excludes * configs/finevideo.yaml would not be"],
    ),
    ("schedule.yaml", "excludes: [.git,", "excludes: ['*.py',", ["schedule.yaml: excludes * main.py and"]),
    ("job.yaml", "curate --config", "curate --input-list my.txt --config", ["job.yaml: entrypoint: no my.txt in"]),
    ("job.yaml", "curate --config", "curate --annotate.module my.py --config", ["job.yaml: entrypoint: no my.py in"]),
    # the entrypoint
    ("job.yaml", "curate --config", "curat --config", ["job.yaml: entrypoint: 'python main.py curat'"]),
    ("job.yaml", "--output", "--ouput", ["job.yaml: entrypoint: unknown option --ouput: did you mean --output?"]),
    ("job.yaml", "configs/finevideo", "configs/finevide", ["job.yaml: entrypoint: --config *: no such file"]),
    (
        "job.yaml",
        '"${ANYSCALE_ARTIFACT_STORAGE%/}',
        '"/tmp',
        ["job.yaml: entrypoint: --output /tmp/cutroom/finevideo", "the nights would begin anew"],
    ),
    ("job.yaml", "--config configs/finevideo.yaml", "", ["job.yaml: entrypoint: no input", "resources.cpus_per"]),
    ("job.yaml", '/finevideo"', "/finevideo", ["job.yaml: entrypoint: No closing quotation"]),
    # retries, time, secrets
    ("job.yaml", "max_retries: 5", "max_retries: 0", ["job.yaml: max_retries is 0"]),
    ("job.yaml", "timeout_s: 172800", "", ["job.yaml: no timeout_s"]),
    ("schedule.yaml", "HF_TOKEN: ${HF_TOKEN}", "HF_TOKEN: hf_abc", ["schedule.yaml: env_vars: HF_TOKEN has its value"]),
    (
        "job.yaml",
        "max_retries: 5",
        "max_retries: 5\nenv_vars: {AWS_ACCESS_KEY_ID: AKIA}",
        ["AWS_ACCESS_KEY_ID has its value"],
    ),
    ("job.yaml", "# Secrets", "# AKIAABCDEFGHIJKLMNOP\n# Secrets", ["job.yaml: line 3 holds what looks like a key"]),
    (
        "job.yaml",
        'finevideo"',
        'finevideo-${ANYSCALE_JOB_ID}"',
        ["is not there the next time", "the nights would begin"],
    ),
    (
        "job.yaml",
        '"${ANYSCALE_ARTIFACT_STORAGE%/}/cutroom/finevideo"',
        "'${ANYSCALE_ARTIFACT_STORAGE%/}/cutroom/finevideo'",
        ["is not there the next time"],
    ),
    ("job.yaml", "%/}/cutroom", "%/}cutroom", ["is not there the next time", "the nights would begin"]),
    (
        "schedule.yaml",
        'cutroom/finevideo"',
        'cutroom/nights"',
        ["schedule.yaml: --output * the nights would begin anew"],
    ),
    (
        "schedule.yaml",
        "    HF_TOKEN: ${HF_TOKEN}",
        "    A: b",
        ["schedule.yaml: env_vars: no HF_TOKEN, which the run needs"],
    ),
    (
        "job.yaml",
        "max_retries: 5",
        'max_retries: 5\nenv_vars: {CUTROOM_SPLIT_MAX_CLIP: "3"}',
        ["job.yaml: entrypoint: *CUTROOM_SPLIT_MAX_CLIP"],
    ),
    (
        "job.yaml",
        "max_retries: 5",
        "max_retries: 5\nenv_vars: {OPENAI_APIKEY: abc}",
        ["job.yaml: env_vars: OPENAI_APIKEY"],
    ),
    ("job.yaml", "curate --config", "curate --annotate.task curat --config", ["job.yaml: entrypoint: no task 'curat'"]),
    (
        "job.yaml",
        "curate --config",
        "curate --annotate.vllm.model /home/me/qwen --config",
        ["no /home/me/qwen in what is"],
    ),
    ("job.yaml", "compute_config: cutroom  #", "#", ["job.yaml: no compute_config"]),
    # the schedule
    ("schedule.yaml", "0 2 * * *", "0 25 * * *", ["schedule.yaml: cron_expression: '25' is no hour"]),
    ("schedule.yaml", "0 2 * * *", "0 0 2 * * *", ["schedule.yaml: cron_expression: * has 6 fields"]),
    ("schedule.yaml", "timeout_s: 20000", "timeout_s: 79200", ["schedule.yaml: timeout_s x (1 + max_retries) is 88 h"]),
    (
        "schedule.yaml",
        "0 2 * * *",
        "0 */12 * * *",
        ["schedule.yaml: timeout_s x (1 + max_retries) is 22 h: longer than the 12 h"],
    ),
    ("schedule.yaml", "0 2 * * *", "0 2 31 2 *", ["schedule.yaml: cron_expression: there is no such day"]),
    ("schedule.yaml", "timezone: UTC", "timezone: Berlin", ["schedule.yaml: timezone: no 'Berlin'"]),
    ("schedule.yaml", "timezone: UTC", "", ["schedule.yaml: no timezone"]),
    # the machines
    ("job.yaml", "compute_config: cutroom", "compute_config: cutrom", ["job.yaml: compute_config: cutrom, but"]),
    (
        "cluster_compute.yaml",
        "g6e.4xlarge",
        "g99.large",
        ["*prices.yaml: nodes: no g99.large", "accelerator_type L40S: the nodes offer None", "accelerator_type L40S"],
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), BREAKS)
def test_each_break_is_told_and_nothing_else(folder: Path, name: str, old: str, new: str, said: list[str]):
    replace(folder, name, old, new)
    found = problems(str(folder))
    assert len(found) == len(said), found
    for problem, pattern in zip(found, said, strict=True):
        where = 0
        for part in pattern.strip("*").split("*"):
            where = problem.find(part.strip(), where)
            assert where >= 0, f"{part!r} not in {problem!r}"


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("cluster_compute.yaml", "labels: {role: cpu}", "labels: {role: cpus}", "offers role=cpu"),
        ("cluster_compute.yaml", "labels: {role: gpu}", "", "offers role=gpu"),
        ("cluster_compute.yaml", "instance_type: g6e", "instance_type: g5", "L40S: the nodes offer A10G"),
        ("cluster_compute.yaml", "max_nodes: 4", "max_nodes: 3", "need 4 GPUs, the nodes offer 3"),
        ("cluster_compute.yaml", "max_nodes: 2", "max_nodes: 1", "reserve 62 CPUs, the nodes offer 32"),
        (
            "configs/finevideo.yaml",
            "split_tasks: 22\n  cut_tasks: 12\n  cpus_per_actor: 1\n  screen_actors: 16",
            "split_tasks: 10\n  cut_tasks: 2\n  cpus_per_actor: 1\n  screen_actors: 26",
            "the actors reserve 36 CPUs; while one node is missing there are 32",
        ),
        ("cluster_compute.yaml", "{CPU: 0, GPU: 0}", "{CPU: 8, GPU: 0}", "keeps work away from the head"),
        ("configs/finevideo.yaml", "accelerator_type: L40S", "accelerator_type: H100", "H100: the nodes offer L40S"),
        ("configs/finevideo.yaml", "{role: gpu}", "{role: gpu, zone: a}", "offers role=gpu, zone=a"),
        ("configs/finevideo.yaml", "vllm_replicas", "vllm_replica", "unknown key"),
        ("configs/finevideo.yaml", "max_num_seqs: 256", "tensor_parallel_size: 2", "no node has more than 1 GPU"),
        ("configs/finevideo.yaml", "max_num_seqs: 256", "pipeline_parallel_size: 2", "need 8 GPUs, the nodes offer 4"),
        (
            "cluster_compute.yaml",
            "{CPU: 4, GPU: 1}",
            "{CPU: 1, GPU: 1}",
            "has 1 CPUs: its engines reserve 1, and * 1 more",
        ),
        (
            "configs/finevideo.yaml",
            "  screen_actors: 16",
            "  # screen_actors: 16",
            "resources.screen_actors: not given",
        ),
        ("configs/finevideo.yaml", "  vllm_replicas: 4\n", "", "resources.vllm_replicas: not given"),
    ],
)
def test_what_the_settings_ask_for_is_held_against_the_machines(folder: Path, name: str, old: str, new: str, said: str):
    replace(folder, name, old, new)
    found = problems(str(folder))
    assert len(found) == 2, found
    for problem in found:
        assert all(part.strip() in problem for part in said.split("*")), problem


@pytest.mark.parametrize("name", [files.JOB, files.COMPUTE, files.IMAGE, files.PRICES])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    assert problems(str(folder)) == [f"{name}: no such file in {folder}"]


@pytest.mark.parametrize("right", ["* * * * *", "*/15 0-6,22 1 jan-mar mon-fri", "0 2 1-31/2 * 7", "59 23 31 12 sun"])
def test_cron_expressions_that_are_right(right: str):
    assert cron_problems(right) == []


@pytest.mark.parametrize(
    "wrong",
    ["", "@daily", "60 * * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *"],
)
def test_cron_expressions_that_are_not(wrong: str):
    assert len(cron_problems(wrong)) == 1


def test_machines_may_be_described_instead_of_named():
    group = {"required_resources": {"CPU": 8, "memory": "32Gi", "GPU": 1, "accelerator": "L4"}, "labels": {"a": "b"}}
    shape = node_groups({"worker_nodes": [group]}, {})[0]
    assert (shape.cpus, shape.gpus, shape.accelerator, shape.memory_gib) == (8, 1, "L4", 32)
    assert shape.offers({"a": "b"})
    assert not shape.offers({"a": "c"})


def test_labels_that_nodes_get_by_themselves():
    group = node_groups({"worker_nodes": [{"instance_type": "x", "market_type": "SPOT"}]}, {"x": {"accelerator": "L4"}})
    assert group[0].offers({"ray.io/accelerator-type": "in(L4,A10G)", "ray.io/market-type": "!on-demand"})
    assert not group[0].offers({"ray.io/accelerator-type": "!L4"})
    assert group[0].offers({"ray.io/availability-zone": "us-east-1a"}), "nobody can know"
