"""The file of a small sweep of real training runs, which takes minutes."""

from pathlib import Path

SWEEP = """
name: rates
dir: {dir}
overrides:
  data: {{path: {packed}, image_size: 16, shots: 3, queries: 3}}
  generator: {{width: 8, conditions: {conditions}, sampler: {{steps: 2}}}}
  meta: {{steps: 12, warmup: 2}}
  adapt: {{steps: 4}}
  validation: {{tasks: 2, images: 3, points: 4}}
  cluster: {{cpus_per_worker: 0.5}}
space:
  inner.lr: {{choice: {rates}}}
  adapt.lr: {{same_as: inner.lr}}
metric: kid
searcher: grid
scheduler: {{looks: {looks}}}
budget: {{trials: {trials}}}
"""


def write_sweep(
    folder: Path, packed: str, rates: list[float], looks: int, conditions: str = "[support]"
) -> Path:
    file = folder / "sweep.yaml"
    text = SWEEP.format(
        dir=folder / "sweeps",
        packed=packed,
        rates=rates,
        looks=looks,
        trials=len(rates),
        conditions=conditions,
    )
    file.write_text(text)
    return file
