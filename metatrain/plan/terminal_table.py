"""A plan as a page that a person reads."""

from metatrain.base.progress import human_duration
from metatrain.plan.collectives import Leg
from metatrain.plan.plan import Plan

_BAR, _NAME = 30, 26


def table(plan: Plan) -> str:
    """All of `plan`, and what it assumes."""
    parts = [_title(plan), _memory(plan), _traffic(plan.legs), _time(plan), _assumptions(plan)]
    return "\n\n".join(parts)


def _title(plan: Plan) -> str:
    layout, config = plan.layout, plan.config
    how = "take their episodes together" if layout.sharded else "take episodes of their own"
    return (
        f"{plan.count:,} parameters, learner {config.learner.name}, ZeRO stage "
        f"{config.cluster.zero_stage}\n{layout.workers:,} workers in groups of {layout.shards}, "
        f"which {how}, {layout.episodes:,} an outer step"
    )


def _memory(plan: Plan) -> str:
    memory, limit = plan.memory, plan.hardware.memory
    where = "in the inner loop" if memory.peak_in_inner else "applying the gradient"
    lines = [f"Memory of a worker at its peak, {where}"]
    lines += [
        f"  {name:<{_NAME}}{size(value):>9}  {_bar(value / memory.peak)}".rstrip()
        for name, value in sorted(memory.at_peak.items(), key=lambda item: -item[1])
    ]
    verdict = "it fits" if plan.fits else "TOO MUCH"
    lines.append(f"  {'together':<{_NAME}}{size(memory.peak):>9}  of {size(limit)}: {verdict}")
    lines.append(
        "  beside it, on the CPU: " + ", ".join(f"{k} {size(v)}" for k, v in memory.host.items())
    )
    return "\n".join(lines)


def _traffic(legs: list[Leg]) -> str:
    if not legs:
        return "Nothing is sent: there is one worker."
    lines = [f"{'Bytes that a worker sends in an outer step':<44}{'sent':>9}{'least':>10}"]
    lines += [f"  {g.purpose:<42}{size(g.sent):>9}{size(g.least):>10}" for g in legs]
    sent, least = sum(g.sent for g in legs), sum(g.least for g in legs)
    return "\n".join([*lines, f"  {'together':<42}{size(sent):>9}{size(least):>10}"])


def _time(plan: Plan) -> str:
    pace, steps, price = plan.pace(), plan.config.meta.steps, plan.hardware.price
    lines = [
        "Time",
        f"  outer gradient  {seconds(pace.inner):>9}  {pace.reason}",
        f"  sending         {seconds(pace.wire):>9}",
        f"  an outer step   {seconds(pace.step):>9}",
        f"  {steps:,} outer steps in {human_duration(steps * pace.step)}",
    ]
    if price is not None:
        hours = steps * pace.step / 3600
        cost = plan.layout.workers * price * hours
        lines.append(
            f"  cost {cost:,.2f}: {plan.layout.workers:,} workers, {hours:,.2f} h at {price:g}"
        )
    return "\n".join(lines)


def _assumptions(plan: Plan) -> str:
    hardware = plan.hardware
    link, network = hardware.link / 1e9, hardware.network / 1e9
    return (
        f"Assumed: {hardware.per_node} workers a node, which send {link:g} GB/s within it "
        f"and {network:g} GB/s out of it;\ncomputing and sending one after the other; data, "
        f"checkpoints and starting left out."
    )


def advice(changes: list[str], better: Plan) -> str:
    """What to change about a plan that does not fit: one sentence.

    Args:
        changes: settings that need less.
        better: the plan with them.
    """
    needs, limit = size(better.memory.peak), size(better.hardware.memory)
    if better.fits:
        return f"a worker's memory is too small; with {' '.join(changes)} it needs {needs}."
    largest = max(better.memory.at_peak, key=better.memory.at_peak.__getitem__)
    changed = f"with {' '.join(changes)} it still" if changes else "it"
    return (
        f"a worker's memory is too small: {changed} needs {needs} of {limit}, most of it for "
        f"{largest}; take more workers, or lower generator.width."
    )


def _bar(share: float) -> str:
    return "█" * round(_BAR * share)


def size(count: float) -> str:
    """Bytes as a person says them, in powers of 1000: ``1.2 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return (
                f"{count / factor:.3g} {unit}"
                if count < 999.5 * factor
                else f"{count / factor:,.0f} {unit}"
            )
    return f"{count / 1e3:.3g} kB"


def seconds(value: float) -> str:
    """A short time: ``12 ms``, ``1.2 s``."""
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
