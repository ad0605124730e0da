"""One's own NDIF server: what `steerlab serve-ndif` starts. Nothing here is needed to be a client of one."""
