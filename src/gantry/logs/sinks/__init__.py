"""Where remote log drivers send to, one file for each protocol."""
