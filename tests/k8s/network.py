"""Evaluate NetworkPolicies by the rules of Kubernetes."""

from ipaddress import ip_address, ip_network
from typing import NamedTuple

from manifests import Object, of_kind


class End(NamedTuple):
    """An end of a connection: a pod with its labels and namespace, or an external address."""

    labels: dict[str, str]
    namespace: str = "metatrain"
    address: str | None = None


def external(address: str) -> End:
    return End({}, "", address)


def passes(objects: list[Object], source: End, target: End, port: int, protocol="TCP") -> bool:
    """Return whether `source` may open a connection to `target`; both must allow it."""
    policies = of_kind(objects, "NetworkPolicy")
    return all(
        end.namespace != "metatrain" or _allowed(policies, direction, end, other, port, protocol)
        for direction, end, other in (("Egress", source, target), ("Ingress", target, source))
    )


def _allowed(policies, direction, end, other, port, protocol) -> bool:
    specs = [p["spec"] for p in policies if direction in p["spec"]["policyTypes"]]
    selecting = [spec for spec in specs if _selects(spec["podSelector"], end.labels)]
    side, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    rules = [rule for spec in selecting for rule in spec.get(side, [])]
    return not selecting or any(
        _has_port(rule.get("ports"), port, protocol)
        and (peers not in rule or any(_matches(peer, other) for peer in rule[peers]))
        for rule in rules
    )


def _has_port(ports, port, protocol) -> bool:
    return ports is None or any((p["port"], p["protocol"]) == (port, protocol) for p in ports)


def _matches(peer, end: End) -> bool:
    if "ipBlock" in peer:
        block, address = peer["ipBlock"], end.address and ip_address(end.address)
        outside = any(address in ip_network(part) for part in block.get("except", []) if address)
        return bool(address) and address in ip_network(block["cidr"]) and not outside
    if end.address:
        return False
    labels = {"kubernetes.io/metadata.name": end.namespace}
    in_namespace = (
        _selects(peer["namespaceSelector"], labels)
        if "namespaceSelector" in peer
        else end.namespace == "metatrain"
    )
    return in_namespace and _selects(peer.get("podSelector", {}), end.labels)


def _selects(selector, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()
