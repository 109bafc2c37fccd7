"""Bytes by URL: files, ranged reads, retries, the disk cache and the local S3 server."""
