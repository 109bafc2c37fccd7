"""The throughput and the latency of the server, beside the loop that it computes."""
