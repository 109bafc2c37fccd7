"""Images become episodes: packing, the packed data set, task sources and the loader."""
