"""The production graph on a cluster of four nodes on this machine, one of which is lost on the way. Not a test itself:
test_placement.py runs it in a process of its own. Arguments: the input folder, the output folder; prints JSON.

Everything is real but the GPUs, which are pretended, and the engine, which needs one: an operator that answers the
same to each request stands in its place, with the arguments that ray.data.llm gave to the engine's.
"""

import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data.llm
from ray.cluster_utils import Cluster
from ray.llm._internal.batch.stages.base import StatefulStageUDF

from pipeline import curate
from pipeline.dry_run import _stand_in
from pipeline.settings import AnnotateSettings, CurateSettings, QualitySettings, ResourceSettings, VllmSettings
from pipeline.stages import engine
from pipeline.stages.ledger import Ledger

ANSWER = {"category": "nature", "is_safe": True, "description": "d", "visual_quality": "high"}
ENGINE_START_S = 4.0
OUTPUT = Path(sys.argv[2])


def note(what: str) -> None:
    """Leave word where this runs."""
    folder = OUTPUT.parent / "notes"
    folder.mkdir(exist_ok=True)
    (folder / f"{what}-{ray.get_runtime_context().get_node_id()}").touch()


class Engine(StatefulStageUDF):
    """Starts slowly, then answers a request each 0.15 s."""

    def __init__(self, data_column: str, expected_input_keys: list[str] | None = None, **ignored: Any):
        super().__init__(data_column, expected_input_keys)
        time.sleep(ENGINE_START_S)

    async def udf(self, rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        note("engine")
        for row in rows:
            time.sleep(0.15)
            answer = {"generated_text": json.dumps(ANSWER), "num_input_tokens": 1, "num_generated_tokens": 1}
            yield {self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN], **answer}


def request(row: dict[str, Any]) -> dict[str, Any]:
    """In place of the real one, whose chat template takes transformers half a minute to import."""
    note("request")
    return {"prompt": "?", "sampling_params": {}}


def with_engine(build: Callable[..., Any]) -> Callable[..., Any]:
    """ray.data.llm's processor as it is built, but for the engine's own code."""

    def built(config: Any, **arguments: Any) -> Any:
        processor = build(config, **{**arguments, "preprocess": request})
        stage = processor.get_stage_by_name(engine.ENGINE_STAGE)
        stage.fn = Engine
        return processor

    return built


@contextmanager
def cluster_of_four() -> Iterator[tuple[Any, dict[str, str]]]:
    """A head that does no work, two CPU nodes and a GPU; gives how to lose one, and the nodes' names by Ray's ids."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = {
        "cpu-1": cluster.add_node(num_cpus=2, labels={"role": "cpu"}),
        "cpu-2": cluster.add_node(num_cpus=2, labels={"role": "cpu"}),
        "gpu": cluster.add_node(num_cpus=2, num_gpus=1, labels={"role": "gpu"}, resources={"accelerator_type:L40S": 1}),
    }
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    names = {node.node_id: name for name, node in nodes.items()}
    try:
        yield (lambda: cluster.remove_node(nodes["cpu-2"])), names
    finally:
        ray.shutdown()
        cluster.shutdown()


def once_at_work(node: str, lose: Callable[[], None], ledgers: list[Ledger], rows: dict[str, int]) -> None:
    """Loses the node as soon as it did some work, and keeps how many rows each stage had handled when it was gone."""

    def watch() -> None:
        while not (ledgers and any(node in at for at in ledgers[0].read().nodes.values())):
            time.sleep(0.1)
        lose()
        rows.update(ledgers[0].read().rows)

    threading.Thread(target=watch, daemon=True).start()


def settings() -> CurateSettings:
    return CurateSettings(
        input=[sys.argv[1]],
        output=str(OUTPUT),
        quality=QualitySettings(min_sharpness=0, min_motion=0, min_contrast=0),
        annotate=AnnotateSettings(annotator="vllm", vllm=VllmSettings(model=str(_stand_in("qwen2.5-vl")))),
        resources=ResourceSettings(
            cpu_label_selector={"role": "cpu"},
            gpu_label_selector={"role": "gpu"},
            accelerator_type="L40S",
            vllm_replicas=1,
            vllm_batch_size=1,
            split_tasks=1,
            cpus_per_split=0.5,
            cpus_per_actor=0.2,
            screen_actors=2,
            embed_actors=1,
            videos_per_task=1,
            clips_per_part=2,
            batch_size=1,
        ),
    )


def main() -> None:
    ray.data.llm.build_processor = with_engine(ray.data.llm.build_processor)
    ledgers: list[Ledger] = []
    start = Ledger.start
    Ledger.start = classmethod(lambda cls: ledgers.append(start()) or ledgers[0])  # type: ignore[method-assign]
    with cluster_of_four() as (lose_a_node, names):
        before: dict[str, int] = {}
        lost = next(node for node, name in names.items() if name == "cpu-2")
        once_at_work(lost, lose_a_node, ledgers, before)
        code = curate.run(settings())
        tally = ledgers[0].read()
        stages = {stage: sorted(names.get(n, "head") for n in at) for stage, at in tally.nodes.items()}
        for path in (OUTPUT.parent / "notes").iterdir():
            what, _, node = path.name.partition("-")
            stages.setdefault(what, []).append(names.get(node, "head"))
        rows = {"before": before, "in all": dict(tally.rows)}
        living = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        outcome = {"code": code, "stages": stages, "removed": lost not in living, "rows": rows}
        print("OUTCOME " + json.dumps(outcome))


if __name__ == "__main__":
    main()
