"""`main.py plan`: what it says of real clips, and each reason to fail that it can see."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli, plan
from pipeline.curate import choose_task, what_makes_results
from pipeline.deploy import preflight
from pipeline.deploy.machines import NodeGroup
from pipeline.errors import UserError
from pipeline.records.books import Books, agree_on_settings
from pipeline.records.lease import Lease
from pipeline.schema import clips_schema
from pipeline.settings import (
    AnnotateSettings,
    CurateSettings,
    EmbedSettings,
    FrameSettings,
    PlanSettings,
    ResourceSettings,
    VllmSettings,
)
from pipeline.sources import find_videos

ROOT = Path(__file__).parents[1]
CLUSTER = ResourceSettings(
    cpu_label_selector={"role": "cpu"},
    gpu_label_selector={"role": "gpu"},
    accelerator_type="L40S",
    vllm_replicas=4,
    split_tasks=20,
    screen_actors=1,
    embed_actors=1,
    cpus_per_actor=1,
)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the table is; never ask the real hub."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(preflight, "HUB", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def folder_model(tmp_path: Path) -> str:
    """A folder that looks like a model's."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/model.safetensors").write_bytes(bytes(5_000_000))
    (tmp_path / "model/pytorch_model.bin").write_bytes(bytes(9_000_000))
    return str(tmp_path / "model")


def settings(clips: Path, tmp_path: Path, **changes: Any) -> PlanSettings:
    return PlanSettings(**{"input": [str(clips)], "output": str(tmp_path / "out"), **changes})


def production(clips: Path, tmp_path: Path, model: str, **changes: Any) -> PlanSettings:
    annotate = AnnotateSettings(annotator="vllm", vllm=VllmSettings(model=model))
    embed = EmbedSettings(embedder="clip", clip_model=model)
    return settings(clips, tmp_path, **{"annotate": annotate, "embed": embed, "resources": CLUSTER, **changes})


def test_the_sample_clips(clips_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert plan.run(settings(clips_folder, tmp_path)) == 0
    said = capsys.readouterr().out
    assert "videos    4, about 23 s" in said
    assert "4 probed: h264" in said
    for stage in ("split", "screen", "annotate", "embed"):
        assert f"\n{stage} " in said
    assert "this machine" in said
    assert "no problem found" in said
    assert not (tmp_path / "out").exists(), "a plan leaves nothing behind"


def test_production_names_its_machines_balance_memory_and_cost(clips_folder: Path, tmp_path: Path, folder_model: str):
    made = plan.make(production(clips_folder, tmp_path, folder_model))
    assert made.problems == []
    stages = {stage.name: stage for stage in made.stages}
    assert [str(group) for group in stages["annotate"].groups] == ["gpu (4 x g6e.4xlarge)"]
    assert (stages["annotate"].workers, stages["annotate"].reserves) == (4, "1 L40S")
    assert stages["split"].groups == stages["embed"].groups
    assert [str(group) for group in stages["split"].groups] == ["cpu (2 x m7i.8xlarge)"]
    text = "\n".join(made.lines)
    assert "cost      about 0.59 USD (7.10 an hour with all nodes), 1.31 (15.62) where no spot is" in text
    # 0.40 + 4 x 1.35 + 2 x 0.65; 0.40 + 4 x 3.00 + 2 x 1.61
    assert "disk      gpu: 5 MB a node for " in text
    assert "disk      cpu: 5 MB a node for " in text
    assert "memory    cpu: " in text


def test_numbers_follow_the_table(clips_folder: Path, tmp_path: Path, folder_model: str):
    table = yaml.safe_load((ROOT / "configs/prices.yaml").read_text())
    table["rates"]["vllm_clips_per_s"]["L40S"] /= 100
    table["nodes"]["g6e.4xlarge"]["spot_usd_per_hour"] = 100.0
    slow = tmp_path / "slow.yaml"
    slow.write_text(yaml.safe_dump(table))
    fast = plan.make(production(clips_folder, tmp_path, folder_model))
    made = plan.make(production(clips_folder, tmp_path, folder_model, prices=str(slow)))
    busy = [next(stage.busy_s for stage in p.stages if stage.name == "annotate") for p in (fast, made)]
    assert busy[1] == pytest.approx(100 * busy[0])
    assert "(401.70 an hour" in "\n".join(made.lines)


def test_gpus_that_wait_are_told(clips_folder: Path, tmp_path: Path, folder_model: str):
    narrow = CLUSTER.model_copy(update={"split_tasks": 1})
    made = plan.make(production(clips_folder, tmp_path, folder_model, resources=narrow))
    assert any("the GPUs wait for" in note for note in made.notes)


def with_engines_of(clips_per_s: float, tmp_path: Path) -> str:
    table = yaml.safe_load((ROOT / "configs/prices.yaml").read_text())
    table["rates"]["vllm_clips_per_s"]["L40S"] = clips_per_s
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(table))
    return str(tmp_path / "prices.yaml")


def test_cpus_that_wait_are_told(clips_folder: Path, tmp_path: Path, folder_model: str):
    wide = CLUSTER.model_copy(update={"screen_actors": 16, "embed_actors": 16})
    slow = with_engines_of(3, tmp_path)
    made = plan.make(production(clips_folder, tmp_path, folder_model, resources=wide, prices=slow))
    assert any("the CPUs wait for the GPUs" in note for note in made.notes)
    assert any(line.startswith("balance") and "GPUs take 12" in line for line in made.lines)


def test_pools_that_nobody_gave_are_sized_as_the_run_would_size_them(clips_folder: Path, tmp_path: Path):
    compute = {"head_node": {"instance_type": "m7i.2xlarge", "resources": {"CPU": 0, "GPU": 0}}, "worker_nodes": [
        {"name": "cpu", "instance_type": "m7i.8xlarge", "min_nodes": 1, "max_nodes": 3, "labels": {"role": "cpu"}}
    ]}  # fmt: skip
    machines = tmp_path / "machines.yaml"
    machines.write_text(yaml.safe_dump(compute))
    resources = ResourceSettings(cpu_label_selector={"role": "cpu"})
    made = plan.make(settings(clips_folder, tmp_path, resources=resources, compute=str(machines)))
    assert made.problems == []
    workers = {stage.name: stage.workers for stage in made.stages}
    assert workers["screen"] == workers["annotate"] == workers["embed"] == 8, "of 32 CPUs at the start, not of 96"
    assert workers["split"] == 96 - 3 * 8
    assert any("sized by the 32 CPUs that are there at the start, not by the 96" in note for note in made.notes)
    assert any("is a folder: every machine of the cluster must see it" in note for note in made.notes)


def test_what_is_finished_is_not_reckoned_with(clips_folder: Path, tmp_path: Path):
    now = settings(clips_folder, tmp_path)
    whole, chosen = plan.make(now), choose_task(now)
    found = find_videos(now.input, now.input_list, None, now.source).videos
    agree_on_settings(now.output, what_makes_results(now, chosen), {})
    with Lease(now.output) as lease:
        books = Books(now.output, clips_schema(chosen.response), lease.token)
        books.record([{"video_id": ref.video_id, "status": "no_clips", "num_clips": 0} for ref in found[:3]])
        assert any("another run is writing there" in problem for problem in plan.make(now).problems)
    rest = plan.make(now)
    assert (rest.videos, rest.finished, rest.problems) == (1, 3, [])
    assert 0 < rest.seconds < whole.seconds
    other = plan.make(now.model_copy(update={"frames": FrameSettings(per_clip=2)}))
    assert any("was begun with other settings: frames.per_clip (4 -> 2)" in problem for problem in other.problems)
    with Lease(now.output) as lease:
        Books(now.output, books.clips, lease.token).record(
            [{"video_id": found[3].video_id, "status": "no_clips", "num_clips": 0}]
        )
    assert "videos    none is left to do (4 more are finished)" in "\n".join(plan.make(now).lines)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": ["nowhere.mp4"]}, "no such file"),
        ({"input": []}, "no videos: name some with --input"),
        ({"output": "/proc/out"}, "--output /proc/out: cannot be written"),
        ({"annotate": AnnotateSettings(annotator="vllm")}, "no GPU here"),
        ({"annotate": AnnotateSettings(annotator="openai")}, "no OPENAI_API_KEY"),
        ({"annotate": AnnotateSettings(task="curate")}, "cannot do the task"),
        ({"embed": EmbedSettings(embedder="clip", clip_model="cutroom/none")}, "cutroom/none cannot be reached"),
        ({"embed": EmbedSettings(embedder="clip", clip_model=str(ROOT / "configs"))}, "no config.json"),
        ({"resources": CLUSTER.model_copy(update={"accelerator_type": "H100"})}, ""),
    ],
)
def test_what_would_fail_is_a_problem_and_exit_code_2(
    clips_folder: Path, tmp_path: Path, changes: dict, said: str, capsys: pytest.CaptureFixture[str]
):
    if "resources" in changes:
        annotate = AnnotateSettings(annotator="vllm")
        changes, said = changes | {"annotate": annotate}, "accelerator_type H100: the nodes offer L40S"
    assert plan.run(settings(clips_folder, tmp_path, **changes)) == 2
    out = capsys.readouterr().out
    assert any(line.startswith("PROBLEM") and said in line for line in out.splitlines()), out


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"cpu_label_selector": {"role": "elsewhere"}}, "offers role=elsewhere"),
        ({"gpu_label_selector": {"role": "cpu"}}, "gpu_label_selector"),
        ({"vllm_replicas": 9}, "need 9 GPUs"),
        ({"split_tasks": 100}, "reserve 105 CPUs"),
        ({"screen_actors": None}, "resources.screen_actors: not given"),
        ({"cpus_per_actor": None, "embed_actors": None}, "resources.cpus_per_actor, embed_actors: not given"),
        ({"vllm_replicas": None}, "resources.vllm_replicas: not given"),
        ({"cpus_per_actor": 4}, "a node of gpu has 4 CPUs: its engines reserve 1, and the making of their requests 4"),
        ({"screen_actors": 400, "cpus_per_actor": 0.1}, "memory: the workers on a node of cpu may need 2"),
        ({"cpus_per_split": 33, "split_tasks": 1}, "one worker reserves 33 CPUs, no node has more than 32"),
    ],
)
def test_resources_that_no_machine_offers(
    clips_folder: Path, tmp_path: Path, folder_model: str, update: dict, said: str
):
    resources = CLUSTER.model_copy(update=update)
    made = plan.make(production(clips_folder, tmp_path, folder_model, resources=resources))
    assert made.exit_code == 2
    assert any(said in problem for problem in made.problems), made.problems


def test_videos_without_a_codec_are_told(clips_folder: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    shutil.copyfile(clips_folder / "bikes.mp4", tmp_path / "in/good.mp4")
    (tmp_path / "in/bad.mp4").write_bytes(b"no video")
    made = plan.make(settings(tmp_path / "in", tmp_path))
    assert any("1 of 2 videos cannot be used" in problem for problem in made.problems)
    assert any("bad.mp4: not a readable video" in note for note in made.notes)


def test_another_ray_than_the_images_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preflight, "version", lambda package: "2.59.0")
    assert preflight.versions(str(ROOT)) == ["ray 2.59.0 is installed here, requirements.txt pins 2.60.0: make setup"]


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"screen_actors": 64, "cpus_per_actor": 4}, "the actors reserve 264 CPUs; there are"),
        ({"cpus_per_split": 640}, "one worker reserves 640 CPUs"),
    ],
)
def test_pools_that_this_machine_cannot_hold(clips_folder: Path, tmp_path: Path, update: dict, said: str):
    machine = NodeGroup(name="this machine", cpus=16, memory_gib=64)
    resources = ResourceSettings(embed_actors=1, label_actors=1, **update)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "this_machine", lambda: machine)
        made = plan.make(settings(clips_folder, tmp_path, resources=resources))
    assert any(said in problem for problem in made.problems), made.problems


def test_a_single_core_is_shared(clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A whole core for the split would leave none for the actors: both would wait for ever."""
    monkeypatch.setattr(plan, "this_machine", lambda: NodeGroup(name="this machine", cpus=1, memory_gib=16))
    made = plan.make(settings(clips_folder, tmp_path))
    assert made.problems == []
    assert sum(stage.cpus for stage in made.stages if stage.name != "cut") <= 1


def test_gpu_nodes_that_take_cpu_work_too_are_told(clips_folder: Path, tmp_path: Path, folder_model: str):
    either = CLUSTER.model_copy(update={"cpu_label_selector": {}})
    made = plan.make(production(clips_folder, tmp_path, folder_model, resources=either))
    assert any("lets CPU work onto gpu" in note and "that only cpu" in note for note in made.notes), made.notes
    made = plan.make(production(clips_folder, tmp_path, folder_model))
    assert not any("lets CPU work" in note for note in made.notes)


def test_a_plan_of_a_dry_run_is_small_and_anywhere(clips_folder: Path, tmp_path: Path, folder_model: str):
    made = plan.make(production(clips_folder, tmp_path, folder_model, dry_run=True))
    assert made.problems == []
    assert made.videos == 3
    assert {str(group) for stage in made.stages for group in stage.groups} == {"this machine"}


@pytest.mark.parametrize(
    ("group", "update"),
    [
        (0, {"max_nodes": "4"}),
        (0, {"max_nodes": None}),
        (1, {"max_nodes": 0}),
        (0, {"maxnodes": 2}),
        (1, {"min_nodes": 5, "max_nodes": 2}),
        (1, {"resources": {"CPU": "4"}}),
        (1, {"labels": ["a"]}),
        (0, {"instance_type": ["a"]}),
    ],
)
def test_machines_that_anyscale_would_refuse_are_one_line(clips_folder: Path, tmp_path: Path, group: int, update: dict):
    compute = yaml.safe_load((ROOT / "cluster_compute.yaml").read_text())
    compute["worker_nodes"][group] |= update
    (tmp_path / "machines.yaml").write_text(yaml.safe_dump(compute))
    with pytest.raises(UserError, match=r"machines.yaml: not a compute config: "):
        plan.make(settings(clips_folder, tmp_path, compute=str(tmp_path / "machines.yaml"), resources=CLUSTER))


@pytest.mark.parametrize("head", [None, {"instance_type": "m7i.2xlarge"}])
def test_machines_that_are_told_in_few_words(clips_folder: Path, tmp_path: Path, head: dict | None):
    needs = {"CPU": 16, "memory": "32Gi"}
    worker = {"name": "w", "required_resources": needs, "min_nodes": 1, "labels": {"role": "cpu"}}
    (tmp_path / "machines.yaml").write_text(yaml.safe_dump({"head_node": head, "worker_nodes": [worker]}))
    resources = ResourceSettings(cpu_label_selector={"role": "cpu"})
    made = plan.make(settings(clips_folder, tmp_path, compute=str(tmp_path / "machines.yaml"), resources=resources))
    assert [problem for problem in made.problems if not problem.startswith("head_node")] == []
    assert any("no price for w: it is left out" in note for note in made.notes)


def test_workers_that_share_cores_are_as_slow_as_the_cores(clips_folder: Path, tmp_path: Path, folder_model: str):
    """Four workers a core are not four times as quick."""
    crowd = CLUSTER.model_copy(update={"cpus_per_actor": 0.25, "screen_actors": 128, "embed_actors": 64})
    quick = with_engines_of(1000, tmp_path)
    made = plan.make(production(clips_folder, tmp_path, folder_model, resources=crowd, prices=quick))
    name, seconds = made.pace
    assert name == "the number of cores"
    assert seconds == pytest.approx(sum(stage.cpu_s for stage in made.stages) / 64)


@pytest.mark.parametrize(
    ("name", "value"), [("tensor_parallel_size", "two"), ("tensor_parallel_size", 0), ("tensor-parallel-size", 2)]
)
def test_engine_arguments_that_tell_no_number_of_gpus(name: str, value: object):
    with pytest.raises(ValueError, match=name):
        VllmSettings(engine_kwargs={name: value})


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "not valid YAML"), ("nodes: {}", "rates: field required"), ("x: 1", "nodes: field required")],
)
def test_a_broken_table_is_one_line(clips_folder: Path, tmp_path: Path, text: str, said: str):
    table = tmp_path / "prices.yaml"
    table.write_text(text)
    with pytest.raises(UserError, match=said):
        plan.run(settings(clips_folder, tmp_path, prices=str(table)))


def test_a_misspelt_key_in_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "run.yaml"
    config.write_text("split: {max_clip: 3}\n")
    assert (
        cli.run({"plan": (PlanSettings, "pipeline.plan")}, ["plan", "--config", str(config), "--input", "x.mp4"]) == 2
    )
    assert "unknown key split.max_clip: did you mean split.max_clip_s?" in capsys.readouterr().err


def test_one_broken_video_among_many_is_a_note(clips_folder: Path, tmp_path: Path):
    """Five probes, one of them bad, say nothing of 5 % of forty."""
    (tmp_path / "in").mkdir()
    for i in range(40):
        shutil.copyfile(clips_folder / "carphone_pristine.mp4", tmp_path / f"in/{i:02}.mp4")
    (tmp_path / "in/00.mp4").write_bytes(b"no video")
    made = plan.make(settings(tmp_path / "in", tmp_path))
    assert made.problems == []
    assert any("00.mp4: not a readable video" in note for note in made.notes)


def test_an_endpoint_is_no_gpu(clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    made = plan.make(settings(clips_folder, tmp_path, annotate=AnnotateSettings(annotator="openai")))
    assert not any("GPU" in note for note in made.notes)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub on loopback: `open/model` is for everybody, `gated/model` shows its files and is not."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gated = self.path.endswith("/auth-check") and "gated" in self.path
            files = [{"rfilename": "model.safetensors", "size": 7_000_000_000}]
            body = json.dumps({"id": "a/model", "sha": "0" * 40, "siblings": files}).encode()
            self.send_response(403 if gated else 200)
            if gated:
                self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(preflight, "HUB", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()


@pytest.mark.parametrize(("model", "problem"), [("open/model", ""), ("gated/model", "gated/model cannot be reached")])
@pytest.mark.usefixtures("hub")
def test_a_model_behind_a_licence_is_told(model: str, problem: str):
    found = preflight.models(CurateSettings(output="o", embed=EmbedSettings(embedder="clip", clip_model=model)))[0]
    assert (found.problem or "").startswith(problem and f"embed.clip_model: {problem}")
    assert found.num_bytes == (0 if problem else 7_000_000_000)


def test_the_hubs_token(monkeypatch: pytest.MonkeyPatch):
    there = CurateSettings(output="o", input=["hf://datasets/a/b"])
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no HF_TOKEN" in preflight.tokens(there, on_cluster=True)[0]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "t")
    assert "on this machine only" in preflight.tokens(there, on_cluster=True)[0]
    assert preflight.tokens(there, on_cluster=False) == []
    assert preflight.tokens(CurateSettings(output="o", input=["a.mp4"]), on_cluster=True) == []


def test_it_works_in_any_folder(clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert plan.make(settings(clips_folder, tmp_path)).problems == []
