"""A plan as readable text."""

from metatrain.base.progress import human_duration
from metatrain.base.text import counted
from metatrain.plan.collectives import Transfer
from metatrain.plan.plan import Plan

_BAR, _NAME = 30, 26


def plan_table(plan: Plan) -> str:
    """Format all of `plan`, and its assumptions."""
    parts = [_title(plan), _memory(plan), _traffic(plan.transfers), _time(plan), _assumptions(plan)]
    return "\n\n".join(parts)


def _title(plan: Plan) -> str:
    layout, config = plan.layout, plan.config
    how = "share their episodes" if layout.sharded else "each take different episodes"
    return (
        f"{plan.count:,} parameters, learner {config.learner.name}, ZeRO stage "
        f"{config.cluster.zero_stage}\n{counted(layout.workers, 'worker')} in groups of "
        f"{layout.shards}, which {how}: {layout.episodes:,} per outer step"
    )


def _memory(plan: Plan) -> str:
    memory, limit = plan.memory, plan.hardware.memory
    where = "in the inner loop" if memory.peak_in_inner else "while it applies the gradient"
    lines = [f"Memory of a worker at its peak, {where}"]
    lines += [
        f"  {name:<{_NAME}}{size(value):>9}  {_bar(value / memory.peak)}".rstrip()
        for name, value in sorted(memory.at_peak.items(), key=lambda item: -item[1])
    ]
    verdict = "fits" if plan.fits else "TOO LARGE"
    lines.append(f"  {'total':<{_NAME}}{size(memory.peak):>9}  of {size(limit)}: {verdict}")
    host = ", ".join(f"{purpose} {size(value)}" for purpose, value in memory.host.items())
    lines.append(f"  in the host's memory: {host}")
    return "\n".join(lines)


def _traffic(transfers: list[Transfer]) -> str:
    if not transfers:
        return "Nothing is sent: there is one worker."
    lines = [f"{'Bytes that a worker sends in an outer step':<44}{'sent':>9}{'least':>10}"]
    lines += [f"  {t.purpose:<42}{size(t.sent):>9}{size(t.least):>10}" for t in transfers]
    sent, least = sum(t.sent for t in transfers), sum(t.least for t in transfers)
    return "\n".join([*lines, f"  {'total':<42}{size(sent):>9}{size(least):>10}"])


def _time(plan: Plan) -> str:
    time, steps, price = plan.step_time(), plan.config.meta.steps, plan.hardware.price
    lines = [
        "Time",
        f"  outer gradient  {seconds(time.inner):>9}  {time.reason}",
        f"  sending         {seconds(time.sending):>9}",
        f"  an outer step   {seconds(time.total):>9}",
        f"  {steps:,} outer steps in {human_duration(steps * time.total)}",
    ]
    if price is not None:
        hours = steps * time.total / 3600
        cost = plan.layout.workers * price * hours
        workers = counted(plan.layout.workers, "worker")
        lines.append(f"  cost {cost:,.2f}: {workers}, {hours:,.2f} h at {price:g}")
    return "\n".join(lines)


def _assumptions(plan: Plan) -> str:
    hardware = plan.hardware
    link, network = hardware.link / 1e9, hardware.network / 1e9
    return (
        f"Assumed: {counted(hardware.per_node, 'worker')} per node, sending {link:g} GB/s within "
        f"it and {network:g} GB/s out of it;\ncomputing and sending do not overlap; data, "
        f"checkpoints and start-up are not counted."
    )


def advice(changes: list[str], better: Plan) -> str:
    """Say in one sentence what to change about a plan that does not fit.

    Args:
        changes: settings that need less memory.
        better: the plan with them.
    """
    needs, limit = size(better.memory.peak), size(better.hardware.memory)
    if better.fits:
        return f"a worker's memory is too small; with {' '.join(changes)} it needs {needs}."
    largest = max(better.memory.at_peak, key=better.memory.at_peak.__getitem__)
    changed = f"with {' '.join(changes)} it still" if changes else "it"
    mend = "use more workers, or lower generator.width"
    if better.config.generator.name == "diffusers":
        mend = "choose a smaller backbone"
    return (
        f"a worker's memory is too small: {changed} needs {needs} of {limit}, most of it for "
        f"{largest}; {mend}."
    )


def _bar(share: float) -> str:
    return "█" * round(_BAR * share)


def size(count: float) -> str:
    """Format bytes in powers of 1000: ``1.2 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return (
                f"{count / factor:.3g} {unit}"
                if count < 999.5 * factor
                else f"{count / factor:,.0f} {unit}"
            )
    return f"{count / 1e3:.3g} kB"


def seconds(value: float) -> str:
    """Format a short time: ``12 ms``, ``1.2 s``."""
    return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
