"""Side-by-side measurements: Gantry and the engines that are on this machine, in one run."""
