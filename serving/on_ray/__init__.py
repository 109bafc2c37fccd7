"""Serve from a Ray cluster: the API in one replica, and computing in as many as it needs.

Files, each built on those before it:

    settings     what is served, and by how many
    failures     refusals that pass from one process to another
    replicas     the deployments that compute: adapting, and drawing
    remote       computing by these
    front        the deployment of the HTTP API, the only one that writes the store
    application  all of them together, as a RayService names it; `run` serves it until interrupted
"""
