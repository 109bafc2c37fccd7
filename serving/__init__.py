"""Serve models to people and programs: an HTTP API, its server, and the studio, a page on it.

Files, each built on those before it:

    opening      the folder and the socket, opened before anything is imported that computes
    limits       bounds of what a client may ask for, and the refusals beyond them
    worker       threads that advance jobs in turn
    records      the state of an adaptation
    disk         the files of a client, within a quota of bytes; store has them at any URL
    models       models by name, and the adapted ones last used
    archive      files as one file; lora has that which other tools read
    computing    what models compute: adapting with previews, and drawing by seed
    adaptations  adaptations of a client: their folders, and changes that clients watch
    jobs         what a worker advances: keeping what is computed, part by part
    accounts     clients, each with its adaptations and its share
    settings     fields and JSON of requests
    uploads      bodies of requests, within bounds
    fetching     images by URL, from public addresses alone
    telling      words and sounds, beside images or without any
    decoding     images and sounds out of requests, hostile until decoded
    file_answers files, to clients that may read slowly
    downloads    sheets and archives
    operations   routes, and the document that describes them; reference is its page
    metrics      counts for Prometheus
    comparisons  pairs of drawings to compare, and their answers
    service      what the operations share
    adapting     operations on adaptations
    drawing      operations on drawings
    choosing     operations on choices
    api          the application
    guard        the locks before every request; page_guard has those of the studio's page
    connection   what closes connections that do nothing
    process      one process that serves an application
    tokens       the file of the clients
    server       the server of programs; on_ray/ serves from a Ray cluster
    studio_app   the application of the studio; studio starts it
    commands     the command line
"""
