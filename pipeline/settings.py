"""Every knob, once: one frozen pydantic tree. The command line, its help, the YAML files and the environment follow it.

A field's description states its unit. `affects results` is the rule for resuming: a rerun may change what is marked
OPERATIONAL (where to run, how fast), and nothing else.
"""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pipeline import labels

OPERATIONAL: dict[str, Any] = {"operational": True}
KEY, ERROR = "__key", "__error"  # fields of a sample's record that are the pipeline's own
Probability = Annotated[float, Field(ge=0, le=1)]
LabelSelector = Annotated[dict[str, str], AfterValidator(labels.checked)]


def _not_ours(field: str) -> str:
    if field in (KEY, ERROR):
        raise ValueError(f"{field} is the pipeline's own field: choose another")
    return field


class Group(BaseModel):
    """A group of settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceSettings(Group):
    """Where videos come from."""

    video_column: str = "mp4"
    """column of a parquet shard that holds the video's bytes"""
    extensions: list[str] = ["mp4", "mov", "mkv", "webm", "avi", "m4v", "mpg", "mpeg", "ts", "mts", "flv", "wmv", "ogv"]
    """file name endings taken from a folder (parquet is always taken); globs and lists may name any file"""


class SplitSettings(Group):
    """Shots and clips."""

    detector: Literal["sparse", "dense", "transnetv2"] = "sparse"
    """sparse: decode only where a cut may hide (by itself dense where that does not pay); dense: compare every frame,
    two to three times the CPU time; transnetv2: a neural network on every frame, fifteen times that again"""
    min_change: float = Field(default=15.0, ge=0, le=255)
    """a cut's frame differs from the one before by at least this more than the frames around it differ from each other
    (mean HSV difference, 0-255 levels)"""
    min_change_ratio: float = Field(default=3.0, ge=1)
    """... and by at least this many times as much (ratio)"""
    min_clip_s: float = Field(default=1.0, gt=0)
    """shorter clips are rejected as too_short (seconds)"""
    max_clip_s: float = Field(default=20.0, gt=0)
    """longer shots are windowed into clips of at most this (seconds)"""
    trim_transitions: bool = True
    """dissolves and fades of up to 1.5 s become spans of their own, rejected as transition, so that no clip has them"""
    max_seconds_per_video: float = Field(default=7200.0, gt=0)
    """a video that takes longer to split is failed from there on (seconds)"""
    max_megapixels: float = Field(default=36.0, gt=0)
    """larger frames are refused unopened (megapixels; 8K UHD has 33)"""


class FrameSettings(Group):
    """The frames of a clip that models look at."""

    per_clip: int = Field(default=4, ge=1, le=64)
    """frames taken from each clip, at the middles of as many equal parts (count)"""
    timing: Literal["near-key", "exact"] = "near-key"
    """near-key: the sparse detector takes frames from what it decodes anyway, up to 5 s from where they belong;
    exact: it decodes on, and takes them as near to the middles as the dense detector does"""
    max_side_px: int = Field(default=512, ge=32, le=4096)
    """longer side of a frame, aspect ratio kept (pixels)"""
    jpeg_quality: int = Field(default=90, ge=1, le=100)
    """JPEG quality of the frames (1-100)"""


class QualitySettings(Group):
    """What a clip must show to be worth a model's time."""

    min_brightness: float = Field(default=30.0, ge=0, le=255)
    """darker clips are rejected as too_dark (mean luma, 0-255)"""
    max_brightness: float = Field(default=240.0, ge=0, le=255)
    """brighter clips are rejected as too_bright (mean luma, 0-255)"""
    min_contrast: float = Field(default=20.0, ge=0)
    """flatter clips are rejected as low_contrast (standard deviation of luma, 0-255 levels)"""
    min_sharpness: float = Field(default=115.0, ge=0)
    """softer clips are rejected as blurry (Laplacian variance at a longer side of 320 px; as strict as 50 at 640 px)"""
    min_motion: float = Field(default=0.1, ge=0)
    """stiller clips are rejected as static (mean optical-flow speed, percent of the longer side per second)"""


class ClipFileSettings(Group):
    """The clips as MP4 files."""

    mode: Literal["smart", "reencode", "none"] = "smart"
    """smart: copy what can be copied and encode only around the cuts; reencode: encode all; none: write no files"""
    codec: Literal["h264", "hevc"] = "h264"
    """codec of the files; only sources in the same codec are cut smartly (h264 plays everywhere; many browsers lack
    hevc, and decord stops at the closed GOPs that a smart cut in hevc brings)"""
    crf: float = Field(default=20.0, ge=0, le=51)
    """constant rate factor of what is encoded (0-51, lower is better; about 18 looks like the source)"""
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"] = (
        "veryfast"
    )
    """x264 or x265 preset of what is encoded (slower: smaller files)"""
    fps: float | None = Field(default=None, gt=0, le=240)
    """constant frame rate (frames a second; by default each frame keeps its time); encodes every clip whole"""
    max_side_px: int | None = Field(default=None, ge=32, le=8192)
    """longest side of a picture (pixels; by default as the source); encodes larger videos whole"""
    audio_kbps: float = Field(default=128.0, ge=16, le=512)
    """AAC bit rate where sound cannot be copied (kilobits a second)"""


class ScreenSettings(Group):
    """The safety screen, on every frame before anything else looks at it."""

    model: Literal["open-nsfw", "none"] = "open-nsfw"
    """NSFW classifier; `none` leaves safety to the annotator's is_safe and is refused where that gives none"""
    max_nsfw_score: Probability = 0.8
    """a clip with a frame at or above this is rejected as nsfw (probability)"""


def _checked_parallelism(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The engine's arguments, of which we must know how many GPUs they take. Raises ValueError."""
    for name, value in kwargs.items():
        if "-" in name:
            raise ValueError(f"{name}: vLLM's names have underscores")
        if name in PARALLEL and (type(value) is not int or value < 1):
            raise ValueError(f"{name}: {value!r} is no number of GPUs")
    return kwargs


PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size")
EngineArguments = Annotated[dict[str, Any], AfterValidator(_checked_parallelism)]


class VllmSettings(Group):
    """The vLLM engine, through ray.data.llm."""

    model: str = "Qwen/Qwen2.5-VL-3B-Instruct"
    """hub name or local folder of a vision-language model"""
    max_model_len: int = Field(default=4096, ge=256)
    """longest prompt and answer together (tokens)"""
    engine_kwargs: EngineArguments = Field(default={}, json_schema_extra=OPERATIONAL)
    """more arguments for the engine, as YAML or JSON (gpu_memory_utilization, tensor_parallel_size, ...)"""


def gpus_per_engine(settings: VllmSettings) -> int:
    """GPUs that one engine takes (count)."""
    return math.prod(settings.engine_kwargs.get(name, 1) for name in PARALLEL)


class OpenAISettings(Group):
    """Any OpenAI-compatible endpoint; the key is read from OPENAI_API_KEY."""

    base_url: str = Field(default="https://api.openai.com/v1", json_schema_extra=OPERATIONAL)
    """where the endpoint is"""
    model: str = "gpt-4o-mini"
    """the model's name there"""
    max_concurrency: int = Field(default=16, ge=1, json_schema_extra=OPERATIONAL)
    """requests under way at once (count)"""
    requests_per_minute: float = Field(default=600.0, gt=0, json_schema_extra=OPERATIONAL)
    """rate limit (requests a minute)"""
    max_retries: int = Field(default=5, ge=0, json_schema_extra=OPERATIONAL)
    """tries again after a timeout, a 429 or a 5xx answer (count)"""
    timeout_s: float = Field(default=120.0, gt=0, json_schema_extra=OPERATIONAL)
    """longest wait for one answer (seconds)"""


class ModelSettings(Group):
    """How a vision-language model is asked."""

    temperature: float = Field(default=0.0, ge=0)
    """sampling temperature of vllm and openai (0: greedy)"""
    max_tokens: int = Field(default=256, ge=1)
    """longest answer (tokens)"""
    vllm: VllmSettings = VllmSettings()
    openai: OpenAISettings = OpenAISettings()


class AnnotateSettings(ModelSettings):
    """Who describes a clip, and what is asked."""

    annotator: Literal["labels", "vllm", "openai"] = "labels"
    """labels: embedded ImageNet classifier; vllm: a vision-language model here; openai: one behind an HTTP endpoint"""
    task: str | None = None
    """a registered task (`main.py tasks` lists them); by default `labels` for the labels annotator, else `curate`"""
    module: str | None = None
    """a Python file of your own that registers tasks"""
    top_k: int = Field(default=3, ge=1, le=20)
    """labels a clip gets from the labels annotator (count)"""


class AskSettings(ModelSettings):
    """Who answers for a sample."""

    annotator: Literal["vllm", "openai"] = "vllm"
    """vllm: a vision-language model here; openai: one behind an HTTP endpoint"""


class EmbedSettings(Group):
    """The clip embedding: mean over the frames, unit length."""

    embedder: Literal["efficientnet", "clip", "none"] = "efficientnet"
    """efficientnet: embedded, 1280-d; clip: transformers, 512-d for ViT-B/32; none: the column stays empty"""
    clip_model: str = "openai/clip-vit-base-patch32"
    """hub name or local folder of a CLIP model"""


class ResourceSettings(Group):
    """Where and how wide things run; nothing here changes a result."""

    videos_per_task: int = Field(default=8, ge=1)
    """videos that one split task handles, and so per part of the videos table (count)"""
    clips_per_part: int = Field(default=128, ge=1)
    """clips that are settled together (count): a killed run annotates at most so many again for each writer"""
    block_mb: float = Field(default=8.0, gt=0)
    """size at which clips are handed from the split to the next stage (MB)"""
    cpus_per_split: float | None = Field(default=None, gt=0)
    """CPUs reserved for a task that splits (count; by default one, half of it where there is no second)"""
    split_tasks: int | None = Field(default=None, ge=1)
    """tasks that split at the same time (count; by default as many as there is room for). On a cluster that is still
    growing, a cap leaves room for the classifiers, and keeps clips from piling up while GPUs are on their way"""
    cut_tasks: int | None = Field(default=None, ge=1)
    """tasks that cut clip files at the same time (count; by default as many as there is room for)"""
    cpus_per_actor: float | None = Field(default=None, gt=0)
    """CPUs reserved for a classifier, an embedder, and for writing (count; by default one, less on a small machine)"""
    cpu_label_selector: LabelSelector = {}
    """labels of the nodes that decode, screen, embed and write, as YAML (`{role: cpu}`; `!a`, `in(a,b)`, `!in(a,b)` are
    understood; by default any node)"""
    gpu_label_selector: LabelSelector = {}
    """labels of the nodes that run vLLM, as YAML (`{role: gpu}`; by default any node with a GPU)"""
    decode_threads: int = Field(default=1, ge=1)
    """threads in such a task (count): tasks keep the cores busy, see pipeline/video/threads.py"""
    screen_actors: int | None = Field(default=None, ge=1)
    """NSFW classifiers (count; by default one for every 4 CPUs)"""
    embed_actors: int | None = Field(default=None, ge=1)
    """embedders (count; by default one for every 4 CPUs)"""
    label_actors: int | None = Field(default=None, ge=1)
    """embedded classifiers of the labels annotator (count; by default one for every 4 CPUs)"""
    vllm_replicas: int | None = Field(default=None, ge=1)
    """vLLM engines (count; by default one for each GPU of the cluster)"""
    vllm_batch_size: int = Field(default=32, ge=1)
    """clips handed to an engine at once (count)"""
    accelerator_type: str | None = None
    """the GPU type that vLLM asks for, such as L40S or A10G (by default any)"""
    batch_size: int = Field(default=16, ge=1)
    """clips that a classifier or embedder takes at once (count)"""


MAX_FAILED_FRACTION: Any = Field(
    default=0.05,
    json_schema_extra=OPERATIONAL,
    description="exit code 1 when more than this fraction of what goes in failed (0-1)",
)


class RunSettings(Group):
    """What goes in, where it goes, and when the run counts as failed."""

    continues: ClassVar[bool] = True  # stopped, it goes on from there when started again
    input: list[str] = Field(default=[], json_schema_extra=OPERATIONAL)
    """a file, folder, glob, s3:// or other fsspec URI, or parquet shards (hf://... works); may be given again"""
    input_list: list[str] = Field(default=[], json_schema_extra=OPERATIONAL)
    """a .txt, .csv or .jsonl file with a path on each line (csv, jsonl: in `path`); may be given again"""
    output: str = Field(json_schema_extra=OPERATIONAL)
    """folder or URI to write to; the same folder again continues where the last run stopped"""
    limit: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """take only the first so many videos (count)"""
    max_failed_fraction: Probability = MAX_FAILED_FRACTION
    retry_failed: bool = Field(default=False, json_schema_extra=OPERATIONAL)
    """open videos again that failed in an earlier run"""
    dry_run: bool = False
    """run the same graph on tiny random stand-ins for the models, on a few videos, and say what was checked"""


class DataSettings(Group):
    """The samples: a JSON object on each line."""

    path_key: str = "path"
    """the field that holds the path or URI of a sample's video or picture; samples without it are text only"""
    id_key: str | None = None
    """the field that tells samples apart (by default their whole content does)"""
    output_key: Annotated[str, AfterValidator(_not_ours)] = "output"
    """the field that the answer is written to"""
    dataset: str | None = None
    """how samples are shown to the model, in place of what the task says (`main.py tasks` lists the datasets)"""
    resume: bool = Field(default=True, json_schema_extra=OPERATIONAL)
    """continue where an earlier run stopped; without it, what that wrote for this task is removed first"""
    shards: int = Field(default=2, ge=1, json_schema_extra=OPERATIONAL)
    """shards written at the same time, each by a worker of its own (count)"""


class VideoSettings(Group):
    """How much of a video a model sees. However long it is, it is brought down to this."""

    fps: float = Field(default=2.0, gt=0)
    """frames taken from each second, evenly over the whole video (frames a second)"""
    min_frames: int = Field(default=4, ge=2)
    """... but at least so many, where there are so many (count)"""
    max_frames: int = Field(default=64, ge=2)
    """... and at most so many, all videos and pictures of a sample together (count)"""
    min_pixels: int = Field(default=64 * 28 * 28, ge=4 * 28 * 28)
    """smaller frames are enlarged to this (pixels a frame; 28 x 28 pixels of two frames are a token of Qwen2.5-VL)"""
    max_pixels: int = Field(default=768 * 28 * 28, ge=28 * 28)
    """larger frames are made smaller (pixels a frame)"""
    total_pixels: int = Field(default=3072 * 28 * 28, ge=4 * 28 * 28)
    """a whole sample (pixels of frame pairs or pictures, so 28 x 28 for a token): they get smaller first, then fewer"""


class CaptionSettings(Group):
    """Any task over JSONL samples: whole videos, pictures or texts in, one answer a sample out."""

    continues: ClassVar[bool] = True
    input: str
    """a .jsonl file or URI, a sample on each line: {"path": "a.mp4", ...}; relative paths are relative to it"""
    output: str = Field(json_schema_extra=OPERATIONAL)
    """folder or URI to write output.TASK.jsonl to; the same command again continues where the last run stopped"""
    task: str
    """a registered task (`main.py tasks` lists them)"""
    module: str | None = None
    """a Python file of your own that registers tasks or datasets"""
    limit: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """take only the first so many samples (count)"""
    max_failed_fraction: Probability = MAX_FAILED_FRACTION
    retry_failed: bool = Field(default=False, json_schema_extra=OPERATIONAL)
    """ask again about samples that failed in an earlier run"""
    dry_run: bool = False
    """run the same graph on a tiny random stand-in for the model, on a few samples"""
    data: DataSettings = DataSettings()
    video: VideoSettings = VideoSettings()
    annotate: AskSettings = AskSettings()
    resources: ResourceSettings = Field(default=ResourceSettings(), json_schema_extra=OPERATIONAL)


MAX_CLIP_FRAMES = 600  # of a clip of `summarize`: they travel together, and a model holds them all at once


class SummarizeSettings(Group):
    """Labels for every 30 seconds of videos and pictures, in one JSONL file."""

    uris: list[str] = []
    """files, folders, globs or URIs, separated by commas; may be given again"""
    uri_file: list[str] = []
    """a .txt, .csv or .jsonl file with a path on each line (csv, jsonl: in `path`); may be given again"""
    output: str
    """the .jsonl file or URI to write; what cannot be read goes into .errors.jsonl beside it"""
    model: str = "efficientnet"
    """efficientnet (embedded), resnet50 (torchvision's weights), or a class of your own: FILE.py:CLASS"""
    weights: str | None = None
    """a local file with the weights of resnet50 (by default torchvision's cache, else its download)"""
    top_k: int = Field(default=3, ge=1, le=20)
    """labels taken from each frame (count)"""
    clip_s: float = Field(default=30.0, ge=0.1, le=86_400)
    """length of a clip (seconds); a picture counts as one clip"""
    frame_every_sec: float = Field(default=2.0, ge=0.001, le=86_400, validate_default=True)
    """distance between the frames that are looked at (seconds)"""
    num_gpu_actors: int | None = Field(default=None, ge=0)
    """classifiers with a GPU each (count; by default one for every GPU; 0: on CPUs)"""
    batch_size: int = Field(default=16, ge=1)
    """clips that a classifier takes at once (count)"""
    read_parallelism: int | None = Field(default=None, ge=1)
    """tasks that read videos at the same time (count; by default as many as there is room for)"""
    max_failed_fraction: Probability = MAX_FAILED_FRACTION
    source: SourceSettings = SourceSettings()
    resources: ResourceSettings = ResourceSettings()

    @field_validator("frame_every_sec")
    @classmethod
    def _few_enough_frames(cls, every_s: float, info: ValidationInfo) -> float:
        clip_s = info.data.get("clip_s", 0.0)  # not there when it is wrong itself
        if clip_s > MAX_CLIP_FRAMES * every_s:
            raise ValueError(
                f"{clip_s / every_s:.0f} frames in each clip of {clip_s:g} s are more than {MAX_CLIP_FRAMES}: "
                f"shorter clips (--clip-s), or a frame every {clip_s / MAX_CLIP_FRAMES:g} s"
            )
        return every_s


class TasksSettings(Group):
    """The registered tasks with the fields of their answers, and the datasets."""

    module: str | None = None
    """a Python file of your own that registers tasks or datasets"""


class CurateSettings(RunSettings):
    """Raw video in, clean annotated clips out: shots, quality, safety, annotation, embedding, parquet."""

    source: SourceSettings = SourceSettings()
    split: SplitSettings = SplitSettings()
    frames: FrameSettings = FrameSettings()
    quality: QualitySettings = QualitySettings()
    clips: ClipFileSettings = ClipFileSettings()
    screen: ScreenSettings = ScreenSettings()
    annotate: AnnotateSettings = AnnotateSettings()
    embed: EmbedSettings = EmbedSettings()
    resources: ResourceSettings = Field(default=ResourceSettings(), json_schema_extra=OPERATIONAL)


class PlanSettings(CurateSettings):
    """What a curate run with the same options would do, need and cost, and why it would fail. Starts nothing."""

    continues: ClassVar[bool] = False
    output: str = Field(default="out", json_schema_extra=OPERATIONAL)
    """where the run would write to"""
    prices: str | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """a YAML table of machines, prices and rates (by default the repository's configs/prices.yaml)"""
    compute: str | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """the machines (by default cluster_compute.yaml where labels or a GPU type are asked for, else this machine)"""
    probe: int = Field(default=5, ge=1, json_schema_extra=OPERATIONAL)
    """videos opened to learn codec, duration and size (count)"""


def result_settings(settings: BaseModel) -> dict[str, Any]:
    """The settings that change results, nested as in YAML: what a resumed run must share with the first."""
    kept: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("operational"):
            continue
        value = getattr(settings, name)
        kept[name] = result_settings(value) if isinstance(value, BaseModel) else value
    return kept
