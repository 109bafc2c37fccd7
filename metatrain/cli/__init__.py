"""The command line: one file a topic. It alone prints; nothing imports it but packages above."""
