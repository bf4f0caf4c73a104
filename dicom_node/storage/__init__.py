"""Files of the node by keys: on a disk, on a file system that machines share, or in object storage."""
