"""Serve models to people and programs: an HTTP API, and the studio, a page that stands on it.

Files, each built on those before it:

    limits         bounds of what a client may ask for, and the refusals beyond them
    worker         one thread of a device, which advances its jobs in turn
    adaptations    folders of adaptations on disk, and their state, which clients watch
    models         models by name, and the adapted ones last used
    jobs           what a worker computes: adapting, preferring, and drawing by seed
    comparisons    pairs of drawings to compare, and their answers
    uploads        images out of requests, hostile until decoded
    guard          the locks before every request
    connection     what closes idle connections
    downloads      sheets and archives
    answers        what several routes answer, and what errors become
    choice_routes  the routes of choices
    api            all routes
    studio         one process on this machine; `commands` is the command line
"""
