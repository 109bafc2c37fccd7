"""The command that this package adds to `metatrain`."""

import argparse

from metatrain.cli.arguments import above_0, add_config_arguments, positive
from metatrain.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    render = commands.add_parser(
        "render",
        help="Print the manifest of a run, a sweep or a service, for kubectl apply -f -.",
        description="Print the manifest of a run or a sweep, sized by its plan, or of a service.",
    )
    add_config_arguments(render)
    add = render.add_argument
    add(
        "--overlay",
        action="append",
        default=[],
        metavar="NAME",
        help="one of k8s/overlays: dev, gpu, spot, kueue, volcano, or sweep, which takes a "
        "sweep's file as CONFIG; may be repeated",
    )
    add(
        "--serve",
        action="store_true",
        help="serve models in place of a run: CONFIG has models, store, ... (docs/serving.md)",
    )
    add("--workers", type=positive, required=True, metavar="N", help="worker pods, a node each")
    add("--gpus", type=positive, metavar="N", help="GPUs of a pod, with a Ray Train worker each")
    add("--gpu-memory", type=above_0, metavar="GB", help="memory of a GPU (80)")
    add(
        "--image",
        action="append",
        required=True,
        metavar="IMAGE",
        help="by digest: registry/name@sha256:...",
    )
    add(
        "--api-server",
        metavar="ADDRESS:PORT[,...]",
        help="of the Kubernetes API, which the autoscaler of a sweep or of --serve calls: the "
        "column ENDPOINTS of kubectl -n default get endpoints kubernetes",
    )
    add("--operator-namespace", metavar="NAME", help="of KubeRay's operator (ray-system)")


def _render(arguments: argparse.Namespace) -> None:
    from k8s.render import render
    from k8s.request import request_of
    from k8s.service import render_service

    manifest = render_service(arguments) if arguments.serve else render(request_of(arguments))
    print(manifest, end="")


K8S = Command("Render manifests for Kubernetes.", _arguments, _render)
