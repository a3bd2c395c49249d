"""`main.py plan`: what it says of real clips, and each reason to fail that it can see."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import cli, plan
from pipeline.deploy import preflight
from pipeline.errors import UserError
from pipeline.settings import AnnotateSettings, EmbedSettings, PlanSettings, ResourceSettings, VllmSettings

ROOT = Path(__file__).parents[1]
CLUSTER = ResourceSettings(
    cpu_label_selector={"role": "cpu"},
    gpu_label_selector={"role": "gpu"},
    accelerator_type="L40S",
    vllm_replicas=4,
    split_tasks=20,
    cpus_per_actor=1,
)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the table is; never ask the real hub."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def folder_model(tmp_path: Path) -> str:
    """A folder that looks like a model's."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
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
    assert stages["annotate"].group == "gpu (4 x g6e.4xlarge)"
    assert (stages["annotate"].workers, stages["annotate"].reserves) == (4, "1 L40S")
    assert stages["split"].group == stages["embed"].group == "cpu (2 x m7i.8xlarge)"
    text = "\n".join(made.lines)
    assert "USD (7.10 an hour with all nodes)" in text  # 0.40 + 4 x 1.35 + 2 x 0.65
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": ["nowhere.mp4"]}, "no such file"),
        ({"input": ["hf://datasets/a/b/c.parquet"]}, "no HF_TOKEN"),
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
        changes, said = changes | {"annotate": annotate}, "accelerator_type H100: cluster_compute.yaml offers L40S"
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
        ({"screen_actors": 400}, "memory: the workers on a node of cpu need"),
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


def test_it_works_in_any_folder(clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert plan.make(settings(clips_folder, tmp_path)).problems == []
