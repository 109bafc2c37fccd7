"""The packed data set: Parquet shards, the manifest that commits them, and ranged reads."""
