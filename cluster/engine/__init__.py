"""DeepSpeed engines: ZeRO stages 0 to 3, the mesh of workers, and the inner loop on shards."""
